// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/fork_server_outbox.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// What the processes of the fork server run on behalf of the library above them.
struct child_hooks {
  /// Runs in a new forker before it serves, unless that forker inherits the state of one where it
  /// ran. May be null. Leaves no thread and no process behind.
  void (*boot)() = nullptr;
  /// A worker's main, with its end of the channel. Leaves with _exit; returning, as it should when
  /// the channel ends, kills the worker's children and is _exit(0).
  void (*run)(channel) = nullptr;
  /// The application's own preparation of a new forker, before `boot` and under the same terms. May
  /// throw: `fork_server::start` then says so. May be null.
  void (*preload)() = nullptr;
};

/// The host's handle on keeper and forker, the two single-threaded processes that fork, watch and
/// end workers.
///
/// * Every id given to `fork` gets exactly one `forked` or `fork_failed`, every forked id exactly
///   one `exited`, in that order, also while keeper and forker are killed in turn; a worker is
///   never started twice for one id.
/// * A worker leads its own process group and dies with it: its group when it ends, detached
///   descendants right after. Only a worker that has outlived the forker and then the keeper it was
///   a child of leaves detached descendants behind when it dies unasked.
/// * When the host ends, however it ends, every worker with all descendants and both servers are
///   gone soon after.
///
/// Not thread safe: one thread at a time, any thread after `start`.
class fork_server {
 public:
  /// What happened; the calls may use the fork server, but not destroy it.
  struct events {
    virtual void forked(std::uint64_t id, pid_t pid, unique_fd pidfd) = 0;
    virtual void fork_failed(std::uint64_t id, int error) = 0;
    virtual void exited(std::uint64_t id, const exit_info&) = 0;
    /// Keeper and forker are gone both. Unanswered ids have been reported as failed (ESRCH) just
    /// before; workers that live on are nobody's children: end them by their pidfds. No `exited`
    /// follows.
    virtual void lost_contact() = 0;

   protected:
    ~events() = default;
  };

  /// Ids from here on are the fork server's own.
  static constexpr std::uint64_t max_id = UINT64_MAX - 64;

  /// Starts keeper and forker, and waits for `preload` where there is one. Throws
  /// start_method_error when this process has more than one thread, which a fork would tear, or
  /// when `preload` throws, with that as its nested exception; std::system_error when the system
  /// refuses.
  static std::unique_ptr<fork_server> start(child_hooks);

  fork_server(const fork_server&) = delete;
  fork_server& operator=(const fork_server&) = delete;
  /// In the process that started it: the servers end every group left and leave, without being
  /// waited for. In a forked copy: closes.
  ~fork_server();

  /// Readable: call `read`. Writable while `wants_write()`: call `flush`. Stays readable after
  /// contact is lost.
  int fd() const noexcept { return outbox_.fd(); }

  /// Asks for a worker that gets `worker_end`. `id` is below max_id and never used twice;
  /// std::invalid_argument where that is seen not to be so.
  void fork(std::uint64_t id, unique_fd worker_end);

  /// Lets the worker's parent signal its whole group; a worker not forked yet gets it as soon as it
  /// is, an ended one never. Delivered at least once: twice only if a server dies meanwhile.
  void signal_group(std::uint64_t id, int signal);

  /// Tells of a process that the host forked itself: its tree is ended when the host, or this
  /// handle, is gone. Nothing is reported about it. `pidfd` stays the caller's. A process that is a
  /// child subreaper takes its detached descendants along. Throws std::system_error when `pidfd`
  /// cannot be duplicated.
  void adopt(std::uint64_t id, pid_t pid, int pidfd);

  /// An adopted process has been reaped by the host. The keeper sees its end by itself.
  void disown(std::uint64_t id) { adopted_.erase(id); }

  /// Receives all there is, without blocking, and sends what it can.
  void read(events&);
  /// Sends what was queued because the socket was full; true when nothing is left.
  bool flush();
  bool wants_write() const noexcept {
    return !outbox_.empty() || (!unsent_.empty() && under_way_ < max_under_way);
  }
  /// The kernel was short of something: no event tells when to call `flush` again.
  bool starved() const noexcept { return outbox_.starved(); }
  bool contact_lost() const noexcept { return lost_; }

  /// False where this process has closed the descriptor behind the fork server's back, as
  /// closefrom(3) does; its number may be anybody's. Then nothing but `disown`, `abandon` and the
  /// destructor may be called.
  bool intact() const noexcept;
  /// Contact is lost, with all that `lost_contact` promises; to be called where it is not intact.
  /// The number of its descriptor is neither closed nor used.
  void abandon(events&);

  /// The newest known; for tests and the trace tool.
  pid_t keeper_pid() const noexcept { return keeper_; }
  pid_t forker_pid() const noexcept { return forker_; }

 private:
  /// Forks that the servers work on at a time. Enough to keep them busy, while the descriptors on
  /// their way stay well below the kernel's limit per user.
  static constexpr std::size_t max_under_way = 64;

  struct request {
    unique_fd worker_end;
    bool under_way = false;
    /// What to send as soon as it is forked.
    std::vector<int> signals;
  };
  struct unconfirmed_signal {
    std::uint64_t id;
    int signal;
  };
  struct adoptee {
    pid_t pid;
    unique_fd pidfd;
  };
  struct receiver;

  explicit fork_server(channel control);
  void meet_keeper();
  void await_preload(int report);
  void send_requests();
  std::optional<request> settle(std::uint64_t id);
  void send_signal(std::uint64_t id, int signal);
  void resume();
  void refuse(events&);
  void lose_contact(events&);

  outbox outbox_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  pid_t owner_;
  pid_t keeper_ = 0;
  pid_t forker_ = 0;
  std::uint64_t epoch_ = 0;
  bool lost_ = false;
  std::map<std::uint64_t, request> requests_;
  /// Requests that wait until fewer are under way.
  std::deque<std::uint64_t> unsent_;
  std::size_t under_way_ = 0;
  /// Asked for after contact was lost.
  std::vector<std::uint64_t> refused_;
  std::unordered_map<std::uint64_t, pid_t> alive_;
  std::uint64_t next_signal_ = 0;
  std::map<std::uint64_t, unconfirmed_signal> signals_;
  std::unordered_map<std::uint64_t, adoptee> adopted_;
};

}  // namespace carom::runtime
