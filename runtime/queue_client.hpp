// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/queue_access.hpp>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/fork_mark.hpp"
#include "runtime/queue_page.hpp"
#include "runtime/result_ring.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ring.hpp"
#include "serialization/queue_messages.hpp"

namespace carom::runtime {

class queue_host;

/// A process's end of a queue: its page and its channel, shared by its threads. The operations are
/// what `detail::queue_access` says of them.
///
/// Of the threads that wait, one leads: it sleeps on the channel, and what it receives is for all;
/// the others sleep on `turn_`.
class queue_client {
 public:
  struct ends {
    int door;        // whose host hears the knock
    int host_pidfd;  // -1: the host is this process
    std::uint64_t maxsize;
    queue_host* here;  // null unless the host is this process
  };

  /// Knocks. Throws process_error if the host is gone, std::system_error.
  explicit queue_client(const ends& its);
  /// Of an original only.
  ~queue_client();
  /// In a forked copy, in place of the destructor: closes the channel, which is another process's.
  /// The object stays, as other threads may still ask it whether it is an original, and what it
  /// holds may have been changing at the moment of the fork.
  void abandon() noexcept;
  queue_client(const queue_client&) = delete;
  queue_client& operator=(const queue_client&) = delete;

  /// Whether this is the process that it connects.
  bool original() const noexcept { return mark_.original(); }

  bool put(const detail::blob& item, const detail::queue_wait& until);
  bool get(detail::queue_received& into, const detail::queue_wait& until);
  std::uint64_t size() { return ask(serialization::queue_message_kind::size); }
  bool task_done() { return ask(serialization::queue_message_kind::done) != 0; }
  bool join(const detail::queue_wait& until);
  void close();
  bool flush(const detail::queue_wait& until);

 private:
  using lock = std::unique_lock<std::mutex>;
  using kind = serialization::queue_message_kind;
  using deadline = std::optional<std::chrono::steady_clock::time_point>;
  struct outgoing;
  /// The task's soft limit has passed: thrown where `mutex_` must not be let go of yet.
  struct interrupted {};
  struct picture;
  class waiting_thread;
  enum class put_outcome { put, no_room, ring_full };

  queue_client(const ends& its, std::pair<channel, channel> pair, unique_fd memory);

  static deadline deadline_of(const detail::queue_wait& until);
  /// Whether it is to be a mere look.
  static bool at_once(const detail::queue_wait& until);
  static deadline patience();
  static deadline patience_of_look();
  static deadline time_for_answer(const detail::queue_wait& until);
  /// When the time of a wait is up, the host is asked once more, as for a mere look: what is in the
  /// queue may not have been delivered yet.
  static deadline last_patience();
  std::string why_gone() const;

  lock enter();
  /// Locks `mutex_`, as everybody has to who may be on the loop thread.
  void take(lock& free);

  /// What this_task::checkpoint throws; without the lock.
  [[noreturn]] static void pass_on(const interrupted&);

  // All of these under the lock.
  put_outcome try_put(outgoing& what);
  bool commit();
  void send_ahead(outgoing& what);
  bool try_get(detail::queue_received& into);
  void read_item(const task_slot& slot, detail::queue_received& into);
  void ring_host();
  void check_host();
  void expect_usable() const;
  void expect_open() const;
  void send(const serialization::queue_message& message, std::span<const int> fds = {});
  bool send_through(channel& to, const std::vector<std::byte>& bytes, std::span<const int> fds,
                    deadline until);
  void wait_to_send(int fd, bool for_room, deadline until);
  [[noreturn]] static void throw_no_answer();
  void receive_all(bool leading);
  void keep_descriptors(const serialization::queue_message& told, message& received);
  std::uint64_t ask(kind what);
  std::optional<std::uint64_t> request(lock& held, kind what, deadline until, bool brief);

  template <class Ready>
  bool wait(lock& held, deadline until, std::atomic<std::uint64_t>* wants, bool brief, Ready ready);
  picture look() const;
  void lead(lock& held, const picture& before, deadline until, bool brief);
  void follow(lock& held, const picture& before, deadline until);
  void wake_followers();
  void wake_all();
  void check_soft_limit(lock& held);

  /// What came ahead of an item, by its key.
  struct kept {
    detail::descriptor_list descriptors;
    unique_fd memory;
  };

  fork_mark mark_;
  const ends ends_;
  channel channel_;
  unique_fd nudge_;  // an eventfd: wakes who leads
  mapping memory_;
  queue_page* page_;
  std::mutex mutex_;
  task_consumer items_;
  result_producer puts_;
  std::uint64_t position_ = 0;  // items put
  std::uint64_t last_key_ = 0;
  std::uint64_t last_request_ = 0;
  std::unordered_map<std::uint64_t, std::optional<std::uint64_t>> answers_;
  std::unordered_map<std::uint64_t, kept> kept_;
  bool led_ = false;  // a thread sleeps on the channel, or is about to
  int followers_ = 0;
  bool closed_ = false;
  std::string broken_;  // why the host is not there any more
  std::int64_t checked_ns_ = 0;
  std::atomic<std::uint32_t> turn_{0};
  std::uint64_t channel_inode_ = 0;
};

}  // namespace carom::runtime
