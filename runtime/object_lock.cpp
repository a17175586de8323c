// SPDX-License-Identifier: BSL-1.0
#include <carom/errors.hpp>
#include <carom/object_lock.hpp>

namespace carom {
namespace {

enum class lock_kind : unsigned char { own, exclusive, recursive };

}  // namespace

acquire_result object_lock::acquire(detail::timeout time) {
  if (const auto own = std::get_if<0>(&lock_)) return (*own)->acquire(time);
  if (const auto exclusive = std::get_if<1>(&lock_)) return exclusive->acquire(time);
  return std::get<2>(lock_).acquire(time);
}

void object_lock::release() {
  if (const auto own = std::get_if<0>(&lock_)) return (*own)->release();
  if (const auto exclusive = std::get_if<1>(&lock_)) return exclusive->release();
  std::get<2>(lock_).release();
}

bool object_lock::abandoned() const noexcept {
  if (const auto own = std::get_if<0>(&lock_)) return (*own)->abandoned();
  if (const auto exclusive = std::get_if<1>(&lock_)) return exclusive->abandoned();
  return std::get_if<2>(&lock_)->abandoned();
}

void object_lock::pack_beside(detail::byte_writer& out) const {
  out.put_raw(static_cast<lock_kind>(lock_.index()));
  if (const auto exclusive = std::get_if<1>(&lock_)) detail::handle_access::pack(out, *exclusive);
  if (const auto recursive = std::get_if<2>(&lock_)) detail::handle_access::pack(out, *recursive);
}

object_lock object_lock::unpack_beside(detail::byte_reader& in,
                                       std::shared_ptr<detail::shared_object> object) {
  switch (in.get_raw<lock_kind>()) {
    case lock_kind::own: return object_lock(std::move(object));
    case lock_kind::exclusive: return detail::handle_access::unpack<exclusive_lock>(in);
    case lock_kind::recursive: return detail::handle_access::unpack<rlock>(in);
  }
  throw encoding_error("a shared object's lock is of no known kind");
}

void object_lock::pack(detail::byte_writer& out) const {
  pack_beside(out);
  if (const auto own = std::get_if<0>(&lock_)) (*own)->pack(out);
}

object_lock object_lock::unpack(detail::byte_reader& in) {
  object_lock made = unpack_beside(in, nullptr);
  if (auto* const own = std::get_if<0>(&made.lock_))
    *own = detail::shared_object::unpack(in, nullptr);
  return made;
}

}  // namespace carom
