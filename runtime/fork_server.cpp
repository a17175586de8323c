// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>

#include "runtime/above_stdio.hpp"
#include "runtime/fork_server_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/worker_identity.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

#ifdef __SANITIZE_THREAD__
constexpr int threads_of_the_runtime = 1;
#else
constexpr int threads_of_the_runtime = 0;
#endif

bool has_thread(const char* name) {
  std::error_code unknown;
  for (std::filesystem::directory_iterator one("/proc/self/task", unknown), end;
       !unknown && one != end; one.increment(unknown)) {
    std::string called;
    if (std::getline(std::ifstream(one->path() / "comm"), called) && called == name) return true;
  }
  return false;
}

void refuse_threads() {
  const int counted = count_threads();
  if (counted == 0)
    throw start_method_error(
        "carom: the fork server cannot start, because /proc is not mounted here, or not to be "
        "read: nothing else tells whether this process has threads, and what its workers leave "
        "behind");
  const int threads = counted - threads_of_the_runtime;
  if (threads <= 1) return;
  throw start_method_error(
      "carom: the fork server cannot start, because this process has " + std::to_string(threads) +
      " threads and a fork copies only one of them: write "
      "carom::init(argc, argv) as the first line of main" +
      (has_thread("carom-loop")
           ? ", and make queues behind it: one that was made before, perhaps a "
             "global one, has started carom's loop"
           : ""));
}

/// What is still in a buffer would be written again by each process forked from here on.
void flush_output() {
  std::cout.flush();
  std::clog.flush();
  std::fflush(nullptr);
}

std::pair<unique_fd, unique_fd> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::system_category(), "pipe2");
  unique_fd first{ends[0]}, second{ends[1]};
  return {above_stdio(std::move(first)), above_stdio(std::move(second))};
}

/// False at the end, or when it breaks off.
bool read_fully(int fd, void* into, std::size_t size) {
  auto* at = static_cast<char*>(into);
  while (size != 0) {
    const ssize_t got = ::read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

unique_fd open_own_pidfd() {
  unique_fd opened = open_pidfd(::getpid());
  if (!opened) throw std::system_error(errno, std::system_category(), "pidfd_open");
  return opened;
}

/// While it lives, orphans of this process's children are not given to it: the keeper is nobody's
/// whom a wait of the host should see. Where the host is process 1 they are all the same.
class no_reaping {
 public:
  no_reaping() noexcept {
    if (::prctl(PR_GET_CHILD_SUBREAPER, &was_) != 0) was_ = 0;
    if (was_ != 0) ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
  no_reaping(const no_reaping&) = delete;
  no_reaping& operator=(const no_reaping&) = delete;
  ~no_reaping() {
    if (was_ != 0) ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  }

 private:
  int was_ = 0;
};

/// The keeper's parent ends as soon as the keeper can be told to be ours: the keeper is then a
/// child of init, or of the fork server that has made this process, and no wait of the host ever
/// sees it.
void fork_keeper(server_context context) {
  auto [placed, place] = make_pipe();
  const pid_t middle = ::fork();
  if (middle < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (middle == 0) {
    const pid_t keeper = ::fork();
    if (keeper == 0) serve(std::move(context), std::move(place));
    const int error = keeper < 0 ? errno : 0;
    place.reset();
    char nothing = 0;
    while (::read(placed.get(), &nothing, 1) < 0 && errno == EINTR) {
    }
    ::_exit(error);
  }
  place.reset();
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    throw std::system_error(WEXITSTATUS(status), std::system_category(), "fork");
}

}  // namespace

std::unique_ptr<fork_server> fork_server::start(child_hooks hooks) {
  const no_stop_helper alone;
  refuse_threads();
  flush_output();
  auto [host_end, server_end] = channel::make_pair();
  server_context context;
  context.hooks = hooks;
  context.host = ::getpid();
  context.host_pidfd = open_own_pidfd();
  context.control = std::move(server_end);
  unique_fd report;
  if (hooks.preload != nullptr) std::tie(report, context.preload_report) = make_pipe();
  {
    const no_reaping ours_alone;
    fork_keeper(std::move(context));
  }
  std::unique_ptr<fork_server> server{new fork_server(std::move(host_end))};
  server->meet_keeper();
  if (report) server->await_preload(report.get());
  return server;
}

fork_server::fork_server(channel control) : outbox_(std::move(control)), owner_(::getpid()) {
  struct stat status {};
  if (::fstat(outbox_.fd(), &status) != 0)
    throw std::system_error(errno, std::system_category(), "fstat");
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

bool fork_server::intact() const noexcept {
  struct stat status {};
  return ::fstat(outbox_.fd(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

void fork_server::abandon(events& to) {
  (void)outbox_.socket().release().release();
  lose_contact(to);
}

fork_server::~fork_server() {
  if (!intact()) {
    (void)outbox_.socket().release().release();  // the number is somebody else's now
    return;
  }
  // Ends the connection for every copy of it, where closing would leave it to the last; a copy only
  // closes.
  if (owner_ == ::getpid()) ::shutdown(outbox_.fd(), SHUT_WR);
}

void fork_server::meet_keeper() {
  message received;
  for (;;) {
    if (outbox_.socket().receive(received, true))
      throw std::system_error(EAGAIN, std::system_category(),
                              "carom: the fork server ended as it began");
    const auto decoded = decode_fork_message(received.bytes);
    if (!decoded || !std::holds_alternative<servers>(*decoded)) continue;
    keeper_ = std::get<servers>(*decoded).keeper;
    forker_ = std::get<servers>(*decoded).forker;
    return;
  }
}

void fork_server::await_preload(int report) {
  preload_report said;
  if (!read_fully(report, &said, sizeof said))
    throw start_method_error(
        "carom: the fork server ended while it ran the function of set_forkserver_preload, which "
        "must not end its process");
  if (!said.failed) return;
  std::vector<std::byte> packed(std::min<std::size_t>(said.length, preload_report::longest));
  if (!read_fully(report, packed.data(), packed.size())) packed.clear();
  try {
    std::rethrow_exception(detail::decode_exception(packed));
  } catch (const std::exception& e) {
    std::throw_with_nested(start_method_error(
        std::string("carom: the function of set_forkserver_preload threw: ") + e.what()));
  } catch (...) {
    std::throw_with_nested(
        start_method_error("carom: the function of set_forkserver_preload threw what is no "
                           "std::exception"));
  }
}

void fork_server::fork(std::uint64_t id, unique_fd worker_end) {
  if (id >= max_id || requests_.contains(id) || alive_.contains(id))
    throw std::invalid_argument("fork_server: the id of a worker is in use or reserved");
  if (lost_) {
    refused_.push_back(id);
    return;
  }
  requests_.emplace(id, request{std::move(worker_end), false, {}});
  unsent_.push_back(id);
  send_requests();
}

void fork_server::send_requests() {
  while (!unsent_.empty() && under_way_ < max_under_way && outbox_.empty()) {
    const std::uint64_t id = unsent_.front();
    if (const auto found = requests_.find(id); found != requests_.end()) {
      if (!outbox_.push(fork_request{id}, {found->second.worker_end.get()})) return;
      found->second.under_way = true;
      ++under_way_;
    }
    unsent_.pop_front();
  }
}

/// The request that an answer settles; empty when the answer is no news.
std::optional<fork_server::request> fork_server::settle(std::uint64_t id) {
  auto found = requests_.extract(id);
  if (found.empty()) return std::nullopt;
  if (found.mapped().under_way) --under_way_;
  return std::move(found.mapped());
}

void fork_server::signal_group(std::uint64_t id, int signal) {
  if (const auto waiting = requests_.find(id); waiting != requests_.end())
    waiting->second.signals.push_back(signal);
  else if (alive_.contains(id))
    send_signal(id, signal);
}

void fork_server::send_signal(std::uint64_t id, int signal) {
  const std::uint64_t sequence = next_signal_++;
  signals_.emplace(sequence, unconfirmed_signal{id, signal});
  outbox_.push(signal_request{sequence, id, signal});
}

void fork_server::adopt(std::uint64_t id, pid_t pid, int pidfd) {
  unique_fd copy{::fcntl(pidfd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)};
  if (!copy) throw std::system_error(errno, std::system_category(), "fcntl(F_DUPFD_CLOEXEC)");
  outbox_.push(adopt_request{id, pid}, {copy.get()});
  adopted_.insert_or_assign(id, adoptee{pid, std::move(copy)});
}

bool fork_server::flush() {
  outbox_.flush();
  send_requests();
  return outbox_.empty();
}

void fork_server::resume() {
  // Everything on its way to the dead keeper is told again.
  outbox_.clear();
  outbox_.push(serialization::resume{epoch_});
  for (const auto& [id, process] : adopted_)
    outbox_.push(adopt_request{id, process.pid}, {process.pidfd.get()});
  for (const auto& [sequence, sent] : signals_)
    outbox_.push(signal_request{sequence, sent.id, sent.signal});
  unsent_.clear();
  under_way_ = 0;
  for (auto& [id, unanswered] : requests_) {
    unanswered.under_way = false;
    unsent_.push_back(id);
  }
  send_requests();
}

/// Takes what the servers say; what is no news, because a new keeper repeats it, is dropped.
struct fork_server::receiver {
  fork_server& server;
  events& to;
  std::vector<unique_fd>& fds;

  void operator()(const forked& report) {
    const auto answered = server.settle(report.id);
    if (!answered) return;
    server.alive_.emplace(report.id, report.pid);
    unique_fd pidfd = fds.size() == 1 ? std::move(fds.front()) : open_pidfd(report.pid);
    to.forked(report.id, report.pid, std::move(pidfd));
    for (const int signal : answered->signals) server.send_signal(report.id, signal);
  }

  void operator()(const fork_failed& report) {
    if (server.settle(report.id)) to.fork_failed(report.id, report.error);
  }

  void operator()(const exited& report) {
    if (server.alive_.erase(report.id) == 0) return;
    std::erase_if(server.signals_, [&](const auto& entry) { return entry.second.id == report.id; });
    to.exited(report.id, {report.pid, report.status, report.known, report.max_rss_bytes,
                          std::chrono::microseconds{report.user_us},
                          std::chrono::microseconds{report.system_us}});
  }

  void operator()(const signalled& report) { server.signals_.erase(report.sequence); }

  void operator()(const gone& report) { server.adopted_.erase(report.id); }

  void operator()(const servers& now) {
    server.keeper_ = now.keeper;
    server.forker_ = now.forker;
    if (std::exchange(server.epoch_, now.epoch) != now.epoch) server.resume();
  }

  template <class Other>
  void operator()(const Other&) {}
};

void fork_server::read(events& to) {
  message received;
  while (!lost_) {
    const std::error_code error = outbox_.socket().receive(received);
    if (error == std::errc::operation_would_block) break;
    if (error == channel_errc::end_of_file) {
      lose_contact(to);
      break;
    }
    if (error && error != channel_errc::descriptors_lost) break;
    if (const auto decoded = decode_fork_message(received.bytes))
      std::visit(receiver{*this, to, received.fds}, *decoded);
  }
  if (lost_)
    refuse(to);
  else
    flush();
}

void fork_server::refuse(events& to) {
  for (const std::uint64_t id : std::exchange(refused_, {})) to.fork_failed(id, ESRCH);
}

void fork_server::lose_contact(events& to) {
  lost_ = true;
  outbox_.clear();
  signals_.clear();
  unsent_.clear();
  for (const auto& [id, unanswered] : std::exchange(requests_, {})) refused_.push_back(id);
  refuse(to);
  to.lost_contact();
}

}  // namespace carom::runtime
