// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/detail/type_traits.hpp>
#include <caf/make_message.hpp>
#include <caf/message.hpp>
#include <carom/call.hpp>
#include <carom/detail/async_access.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/result.hpp>

// Calls and results stay within this process: between processes they travel as packed bytes.
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(carom::packed_call)
namespace caf {
template <class R>
struct allowed_unsafe_message_type<carom::result<R>> : std::true_type {};
}  // namespace caf

namespace carom::detail {

/// Makes the message that answers a request from its settled task. Throws what the task threw.
using caf_reply = caf::message (*)(const task_node&);

template <class R>
caf::message make_caf_reply(const task_node& node) {
  throw_if_failed(node);
  if constexpr (std::is_void_v<R>) {
    return caf::message{};
  } else {
    auto value = decode_value<R>(node);
    if constexpr (caf::detail::is_serializable<R>::value && std::is_copy_constructible_v<R>)
      return caf::make_message(std::move(value));
    else
      return caf::make_message(result<R>(std::move(value)));
  }
}

struct caf_adapter {
  template <class R>
  static reply_function make() {
    return reinterpret_cast<reply_function>(&make_caf_reply<R>);
  }
};
template <class F>
caf_adapter adapter_of(adapter_query<F>, int);

}  // namespace carom::detail
