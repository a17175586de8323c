// SPDX-License-Identifier: BSL-1.0
#include "tests/runtime/fork_server_support.hpp"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "runtime/proc_tree.hpp"

namespace carom::runtime::testing {

namespace {

int milliseconds_until(clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

/// Forks a process that does nothing until it is killed; `prepare` runs in it first. Returns its
/// pid once it has.
pid_t fork_idler(const std::function<void()>& prepare) {
  int ready[2];
  if (::pipe(ready) != 0) return -1;
  const pid_t pid = ::fork();
  char go = 0;
  if (pid == 0) {
    prepare();
    if (::write(ready[1], &go, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  while (::read(ready[0], &go, 1) < 0 && errno == EINTR) {
  }
  ::close(ready[0]);
  ::close(ready[1]);
  return pid;
}

/// Forks a process that has left the worker's group, session and parent: a daemon.
pid_t fork_daemon() {
  int report[2];
  if (::pipe(report) != 0) return -1;
  const pid_t middle = ::fork();
  if (middle == 0) {
    const pid_t daemon = fork_idler([] { ::setsid(); });
    if (::write(report[1], &daemon, sizeof daemon) < 0) ::_exit(1);
    ::_exit(0);
  }
  pid_t daemon = -1;
  if (::read(report[0], &daemon, sizeof daemon) < 0) daemon = -1;
  ::close(report[0]);
  ::close(report[1]);
  ::waitpid(middle, nullptr, 0);
  return daemon;
}

/// A child in the worker's group, and one in a session of its own with a child of its own.
std::string fork_family() {
  std::ostringstream pids;
  pids << fork_idler([] {}) << ' ';
  int report[2];
  if (::pipe(report) != 0) return {};
  pids << fork_idler([&] {
    ::setsid();
    const pid_t below = fork_idler([] {});
    if (::write(report[1], &below, sizeof below) < 0) ::_exit(1);
  }) << ' ';
  pid_t below = -1;
  if (::read(report[0], &below, sizeof below) < 0) return {};
  ::close(report[0]);
  ::close(report[1]);
  pids << below;
  return pids.str();
}

std::string describe_self() {
  std::ostringstream text;
  char target[256] = {};
  if (::readlink("/proc/self/fd/0", target, sizeof target - 1) < 0) return "no stdin";
  text << "stdin=" << target;
  char name[16] = {};
  ::prctl(PR_GET_NAME, name);
  text << " name=" << name << " leader=" << (::getpgrp() == ::getpid());
  text << " fds=" << count_fds(::getpid());
  sigset_t mask;
  ::sigprocmask(SIG_SETMASK, nullptr, &mask);
  int special = 0;
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler != SIG_DFL) ++special;
    if (::sigismember(&mask, number) == 1) ++special;
  }
  text << " special_signals=" << special;
  return text.str();
}

std::string describe_children() {
  std::ostringstream text;
  for (const pid_t pid : children_of(::getpid())) {
    std::ifstream stat{"/proc/" + std::to_string(pid) + "/stat"};
    text << stat.rdbuf() << '\n';
  }
  return text.str();
}

int number_after(const std::string& word) { return std::atoi(word.c_str() + word.find(' ') + 1); }

}  // namespace

void recorder::forked(std::uint64_t id, pid_t pid, unique_fd pidfd) {
  entry& worker = workers[id];
  ++worker.forked;
  ++answered;
  worker.pid = pid;
  worker.pidfd = std::move(pidfd);
}

void recorder::fork_failed(std::uint64_t id, int error) {
  entry& worker = workers[id];
  ++worker.failed;
  ++answered;
  worker.error = error;
}

void recorder::exited(std::uint64_t id, const exit_info& exit) {
  entry& worker = workers[id];
  EXPECT_EQ(worker.forked, 1) << "exit of " << id << " told before its fork";
  ++worker.exited;
  ++ended;
  worker.exit = exit;
  worker.pidfd.reset();
}

void answer_words(channel& host) {
  message received;
  const auto answer = [&](const std::string& text) {
    host.send(std::as_bytes(std::span{text}), {}, true);
  };
  while (!host.receive(received, true)) {
    const std::string word{reinterpret_cast<const char*>(received.bytes.data()),
                           received.bytes.size()};
    if (word.starts_with("exit")) ::_exit(number_after(word));
    if (word.starts_with("raise")) ::raise(number_after(word));
    if (word == "return") return;  // as at the channel's end
    if (word == "idler") answer(std::to_string(fork_idler([] {})));
    if (word == "family") answer(fork_family());
    if (word == "descendants") answer(fork_family() + ' ' + std::to_string(fork_daemon()));
    if (word == "describe") answer(describe_self());
    if (word == "pid") answer(std::to_string(::getpid()));
    if (word == "spin") {
      answer("spinning");
      for (volatile bool forever = true; forever;) {
      }
    }
    if (word == "ignore") {
      ::signal(SIGTERM, SIG_IGN);
      ::signal(SIGINT, SIG_IGN);
      answer("ignoring");
    }
    if (word.starts_with("use")) {
      const auto bytes = static_cast<std::size_t>(number_after(word)) << 20;
      auto* const memory = static_cast<volatile char*>(std::malloc(bytes));
      for (std::size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
      answer("used");
    }
  }
}

void obey(channel host) { answer_words(host); }

void tell(channel& worker, std::string_view word) {
  EXPECT_FALSE(worker.send(std::as_bytes(std::span{word})));
}

std::string answer_of(channel& worker, std::chrono::milliseconds patience) {
  message received;
  const auto deadline = clock::now() + patience;
  for (;;) {
    const std::error_code error = worker.receive(received);
    if (!error)
      return {reinterpret_cast<const char*>(received.bytes.data()), received.bytes.size()};
    pollfd entry{worker.fd(), POLLIN, 0};
    if (error != std::errc::operation_would_block ||
        ::poll(&entry, 1, milliseconds_until(deadline)) == 0) {
      ADD_FAILURE() << "no answer of a worker: " << error.message();
      return {};
    }
  }
}

std::vector<pid_t> numbers_in(const std::string& answer) {
  std::istringstream text{answer};
  std::vector<pid_t> numbers;
  for (pid_t number; text >> number;) numbers.push_back(number);
  return numbers;
}

bool is_alive(pid_t pid) {
  const auto entry = proc_entry::read(pid);
  return entry && !entry->is_zombie();
}

bool ends(pid_t pid, std::chrono::milliseconds patience) {
  const unique_fd pidfd = open_pidfd(pid);
  pollfd entry{pidfd.get(), POLLIN, 0};
  return !pidfd || ::poll(&entry, 1, static_cast<int>(patience.count())) == 1;
}

int count_fds(pid_t pid) {
  DIR* const directory = ::opendir(("/proc/" + std::to_string(pid) + "/fd").c_str());
  if (directory == nullptr) return -1;
  int count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  // Less "." and "..", and the directory itself where it is our own.
  return count - (pid == ::getpid() ? 3 : 2);
}

bool wait_until_childless(std::chrono::milliseconds patience) {
  const auto deadline = clock::now() + patience;
  sigset_t children, before;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, &before);
  bool childless = false;
  for (;;) {
    pid_t reaped;
    while ((reaped = ::waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    childless = reaped < 0;
    const int left = milliseconds_until(deadline);
    if (childless || left == 0) break;
    const timespec wait{left / 1000, left % 1000 * 1'000'000};
    ::sigtimedwait(&children, nullptr, &wait);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return childless;
}

ForkServer::ForkServer() : fds_before_(count_fds(::getpid())) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

ForkServer::~ForkServer() {
  server_.reset();
  channels_.clear();
  seen_.workers.clear();
  const bool childless = wait_until_childless(5s);
  EXPECT_TRUE(childless) << "processes are left behind: " << describe_children();
  if (!childless) end_children();
  EXPECT_EQ(count_fds(::getpid()), fds_before_);
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

std::uint64_t ForkServer::fork_one() {
  const std::uint64_t id = next_id_++;
  auto [ours, theirs] = channel::make_pair();
  channels_[id] = std::move(ours);
  server_->fork(id, theirs.release());
  return id;
}

std::uint64_t ForkServer::forked_one() {
  const std::uint64_t id = fork_one();
  pump_until([&] { return seen_.workers[id].forked + seen_.workers[id].failed != 0; });
  EXPECT_EQ(seen_.workers[id].forked, 1);
  return id;
}

void ForkServer::pump_until(const std::function<bool()>& done, std::chrono::milliseconds patience) {
  const auto deadline = clock::now() + patience;
  while (!done()) {
    pollfd entry{server_->fd(), static_cast<short>(POLLIN | (server_->wants_write() ? POLLOUT : 0)),
                 0};
    const int ready = ::poll(&entry, 1, milliseconds_until(deadline));
    if (ready == 0) {
      ADD_FAILURE() << "nothing came of the fork server in time";
      return;
    }
    if ((entry.revents & POLLOUT) != 0) server_->flush();
    if ((entry.revents & ~POLLOUT) != 0) server_->read(seen_);
  }
}

void ForkServer::await_exit(std::uint64_t id) {
  pump_until([&] { return seen_.workers[id].exited != 0; });
}

}  // namespace carom::runtime::testing
