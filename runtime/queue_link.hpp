// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/queue_item.hpp"
#include "runtime/queue_page.hpp"
#include "runtime/result_ring.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ring.hpp"
#include "serialization/queue_messages.hpp"

namespace carom::runtime {

/// The host's end of one client of a queue: page and channel. All that the client wrote is checked:
/// `corrupt` says whether it has broken the rules. Belongs to the loop's thread.
class queue_link {
 public:
  /// Takes over what a client sent through the door. Throws std::system_error if it is not what it
  /// has to be.
  queue_link(unique_fd page, unique_fd channel, unique_fd pidfd, bool bounded);

  int fd() const noexcept { return channel_.fd(); }
  int pidfd() const noexcept { return pidfd_.get(); }
  /// Why this client is to be let go; null if it has kept to the rules.
  const char* corrupt() const noexcept { return corrupt_; }

  // What it puts.

  /// How many items it has put that have not been taken in.
  std::uint32_t puts_waiting();
  /// Takes in the oldest of them; the item is empty where its descriptors were lost on the way.
  /// False if it is corrupt.
  bool take_in(queue_item& into);
  /// Shows the client that all that was taken in is.
  void release_puts();
  /// Lets it put `count` more.
  void grant(std::uint64_t count);
  /// Takes back unused room until it has at most `keep`.
  void withdraw(std::uint64_t keep);
  /// Puts that are granted and have not been taken in: committed ones are among them.
  std::uint64_t outstanding() const noexcept { return limit_ - taken_in_; }
  /// How much it may put beyond what it has put.
  std::uint64_t room() const noexcept {
    return limit_ - put_word::of(page_->puts.load(std::memory_order_acquire)).tail;
  }

  // What it gets.

  /// How far it has come: everything before has been taken, or taken back.
  std::uint64_t taken_before();
  /// Writes an item behind the others; its position, or nothing if there is no room now.
  std::optional<std::uint64_t> deliver(const queue_item& item);
  /// Takes an item back: true if it will not be taken there.
  bool recall(std::uint64_t position) { return tasks_.revoke(position); }
  bool can_hear() const noexcept { return unsent_.empty(); }

  // What it wants.

  struct wants {
    demand_word items, room;
    bool items_beat, room_beat;  // said anew since the last look
  };
  wants look();
  /// Shows it what was written and done for it, and wakes it if it sleeps.
  void publish();
  /// Asks for a bell when anything changes, with `takes` also when it takes something. False if
  /// something has changed already.
  bool arm(bool takes);

  // Messages.

  /// The next message but bells for tasks of this class; nothing if there is none now.
  std::optional<serialization::queue_message> receive();
  /// Whether messages wait here that the channel's readiness will not tell of.
  bool has_put_off() const noexcept { return !put_off_.empty(); }
  /// The client's end is closed, and all it had sent has been received.
  bool ended() const noexcept { return ended_; }
  void reply(std::uint64_t id, std::uint64_t value);
  bool wants_write() const noexcept { return !unsent_.empty(); }
  void flush();

 private:
  bool send(std::vector<std::byte> bytes, std::span<const int> fds = {});
  bool send_all(std::uint64_t key, const queue_item& item, int memory);
  /// Receives one message and keeps descriptors; others go to `put_off_`. False if there is none.
  bool receive_one();
  bool keep_descriptors(const serialization::queue_message& told, message& received);
  bool take_kept(std::uint64_t key, queue_item& into);
  void forget(std::uint64_t key);
  std::uint64_t look_taken();
  void break_rules(const char* how) noexcept {
    if (!corrupt_) corrupt_ = how;
  }
  template <class F>
  bool change_puts(F f);

  /// What came ahead of an item, by its key.
  struct kept {
    detail::descriptor_list descriptors;
    unique_fd memory;
    std::size_t count = 0;
  };

  channel channel_;
  unique_fd pidfd_;
  mapping memory_;
  queue_page* page_;
  task_producer tasks_;
  result_consumer puts_;
  const bool bounded_;
  const char* corrupt_ = nullptr;
  bool ended_ = false;
  bool stirred_ = false;        // something was done that a sleeper waits for
  std::uint32_t taken_in_ = 0;  // puts, modulo 2^32
  std::uint32_t unreleased_ = 0;
  std::uint32_t limit_;
  std::uint64_t told_taken_ = 0;
  std::uint64_t delivered_ = 0;  // items, for the keys of their descriptors
  std::uint64_t seen_items_ = 0, seen_room_ = 0;
  std::deque<serialization::queue_message> put_off_;
  std::deque<std::vector<std::byte>> unsent_;
  std::unordered_map<std::uint64_t, kept> kept_;
  std::size_t kept_count_ = 0;
};

}  // namespace carom::runtime
