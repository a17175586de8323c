// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/descriptors.hpp>
#include <cstdint>
#include <optional>
#include <utility>

#include "runtime/handle_fd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// The descriptors that belong to the items of a queue: messages of a socket pair whose both ends
/// every handle has, each with a number that the item's frame names. Messages are sent under the
/// queue's put lock and looked at under its get lock; their numbers grow. What belongs to no frame,
/// since its producer died before it published one, is dropped by who comes across it.
class item_rights {
 public:
  /// Besides the one that holds the item itself.
  static constexpr std::size_t most = 250;

  item_rights() = default;
  /// Throws std::system_error.
  static item_rights make();
  /// The ends of another process's pair. Throws encoding_error if they are none.
  item_rights(unique_fd in, unique_fd out);

  /// To pass on. Throw process_error if this process has not inherited them.
  int in() const { return in_.verified(); }
  int out() const { return out_.verified(); }

  enum class send_result { done, full };
  /// `body`: the memory that holds the item, or -1. Throws process_error if the kernel refuses it.
  send_result send(std::uint64_t serial, int body, const detail::descriptor_list* others);

  struct message {
    std::uint64_t serial = 0;
    unique_fd body;
    detail::descriptor_list others;
  };
  /// Duplicates of what the message `serial` carries, which stays where it is: its reader may die
  /// before it has taken the item. Drops messages before it. Nothing if there is no such message.
  /// Throws process_error if this process has no descriptors left.
  std::optional<message> peek(std::uint64_t serial);
  /// Drops the oldest message.
  bool drop();
  /// Drops all messages with numbers below `serial`.
  void drop_below(std::uint64_t serial);

 private:
  std::optional<std::uint64_t> oldest() const;

  handle_fd in_, out_;
};

}  // namespace carom::runtime
