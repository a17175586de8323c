// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <string>
#include <tuple>

namespace carom::test {

/// What another process gets when a handle is sent to it: the same object, mapped anew.
template <class T>
T sent(const T& handle) {
  detail::blob packed;
  detail::encode(packed, handle);
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  return std::get<0>(detail::decode<T>(packed.bytes()));
}

/// A handle of one type sent to who expects another.
template <class To, class From>
To sent_as(const From& handle) {
  detail::blob packed;
  detail::encode(packed, handle);
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  return std::get<0>(detail::decode<To>(packed.bytes()));
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace carom::test
