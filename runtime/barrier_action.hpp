// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/call.hpp>
#include <carom/detail/byte_stream.hpp>
#include <memory>

namespace carom::runtime {

/// What one of a barrier's parties calls, as this process has it. In a forked copy that has not
/// inherited the descriptors of its arguments these are not closed with it.
using barrier_action = std::shared_ptr<const packed_call>;

barrier_action keep_action(packed_call action);
/// Throws process_error if its descriptors are not those that it had. Null is whole.
void expect_inherited(const barrier_action& action);

/// Neither of them null. Throw encoding_error.
void pack_action(detail::byte_writer& out, const packed_call& action);
barrier_action unpack_action(detail::byte_reader& in);

}  // namespace carom::runtime
