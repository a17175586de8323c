// SPDX-License-Identifier: BSL-1.0
#include "runtime/barrier_action.hpp"

#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <cstdint>
#include <tuple>
#include <utility>

#include "runtime/handle_fd.hpp"

namespace carom::runtime {

using detail::call_access;

namespace {

struct action_owner {
  unsigned closings = handle_fd::closings();

  bool has_lost(const packed_call& action) const noexcept {
    const detail::descriptor_list* const carried = call_access::descriptors(action);
    return closings != handle_fd::closings() && carried && !carried->empty();
  }
  void operator()(const packed_call* action) const noexcept {
    // Else the numbers may be a stranger's.
    if (!has_lost(*action)) delete action;
  }
};

}  // namespace

barrier_action keep_action(packed_call action) {
  return {new packed_call(std::move(action)), action_owner{}};
}

void expect_inherited(const barrier_action& action) {
  if (action && std::get_deleter<action_owner>(action)->has_lost(*action))
    throw process_error(
        "this process has inherited a barrier, but not the descriptors of its action: pass the "
        "barrier as an argument");
}

/// Its bytes name descriptors by tickets of their own.
void pack_action(detail::byte_writer& out, const packed_call& action) {
  detail::blob packed;
  detail::encode(packed, action);
  out.put_count(packed.descriptor_count());
  if (packed.descriptor_count() != 0)
    for (const auto& entry : packed.descriptors().entries()) {
      out.put_raw(entry.ticket);
      out.put_descriptor(entry.fd);
    }
  out.put_count(packed.size());
  out.put(packed.data(), packed.size());
}

barrier_action unpack_action(detail::byte_reader& in) {
  detail::descriptor_list carried;
  for (std::size_t count = in.get_count(2 * sizeof(std::uint64_t)); count > 0; --count) {
    const auto ticket = in.get_raw<std::uint64_t>();
    carried.adopt(ticket, in.get_descriptor());
  }
  const std::size_t size = in.get_count();
  const detail::descriptor_scope in_reach(&carried);
  auto action = std::get<0>(detail::decode<packed_call>({in.take(size), size}));
  if (!action.valid()) throw encoding_error("a barrier's action is no call");
  return keep_action(std::move(action));
}

}  // namespace carom::runtime
