// SPDX-License-Identifier: BSL-1.0
#include "runtime/keeper.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>

#include "runtime/proc_tree.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

/// So many forkers in a row that end before they serve are no accident: the boot hook fails.
constexpr int max_failed_boots = 8;

}  // namespace

keeper::keeper(keeper_seat seat)
    : context_(std::move(seat.context)),
      family_(poller_, children_tag),
      to_host_(std::move(context_.control)),
      accepts_(context_.epoch == 0) {
  ::prctl(PR_SET_NAME, "carom-keeper");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  poller_.add(to_host_.fd(), control_tag);
  poller_.add(context_.host_pidfd.get(), host_tag);
  for (auto& [id, worker] : seat.workers) family_.add(id, std::move(worker));
}

forker_seat keeper::serve() {
  // First of all: while there is one process only, its death is the end of everything.
  if (auto seat = fork_forker()) return std::move(*seat);
  if (context_.epoch == 0 && forker_ == 0) leave();
  tell_all_workers();
  announce();
  for (;;) {
    poller_.follow(to_host_, control_tag, watches_host_room_);
    poller_.follow(to_forker_, peer_channel_tag, watches_forker_room_);
    const bool trouble = to_host_.starved() || to_forker_.starved() || forker_ == 0;
    for (const poller::event& event : poller_.wait(trouble ? retry_ms : -1)) {
      switch (event.tag) {
        case control_tag:
          if (event.readable) receive_from_host();
          break;
        case peer_channel_tag:
          if (event.readable) receive_from_forker();
          break;
        case peer_pidfd_tag: forker_gone_ = true; break;
        case host_tag: leave();
        case children_tag: family_.children_changed(); break;
        default: worker_ready(event.tag);
      }
    }
    if (forker_gone_ || forker_ == 0)
      if (auto seat = replace_forker()) return std::move(*seat);
    to_forker_.flush();
    to_host_.flush();
    forget_reported();
    family_.sweep(forker_, forker_pidfd_.get());
  }
}

std::optional<forker_seat> keeper::fork_forker() {
  // Without a descriptor to spare there is none now; it is tried again.
  unique_fd own_pidfd = open_pidfd(::getpid());
  if (!own_pidfd) return std::nullopt;
  channel ours, theirs;
  try {
    std::tie(ours, theirs) = channel::make_pair();
  } catch (const std::system_error&) {
    return std::nullopt;
  }
  const pid_t pid = ::fork();
  if (pid < 0) return std::nullopt;
  if (pid == 0) {
    forker_seat seat;
    seat.context = std::move(context_);
    seat.context.control = std::move(to_host_.socket());
    seat.to_keeper = std::move(theirs);
    seat.keeper_pidfd = std::move(own_pidfd);
    seat.inherited = family_.release();
    return seat;
  }
  // Its number is free for what names the new one, before anything else can take it.
  own_pidfd.reset();
  unique_fd pidfd = open_pidfd(pid);
  try {
    poller_.add(pidfd.get(), peer_pidfd_tag);
    poller_.add(ours.fd(), peer_channel_tag);
  } catch (const std::system_error&) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return std::nullopt;
  }
  forker_ = pid;
  forker_pidfd_ = std::move(pidfd);
  to_forker_ = outbox{std::move(ours)};
  watches_forker_room_ = false;
  forker_serves_ = false;
  return std::nullopt;
}

std::optional<forker_seat> keeper::replace_forker() {
  if (std::exchange(forker_gone_, false)) {
    // What it had said before its end counts.
    receive_from_forker();
    poller_.remove(to_forker_.fd());
    poller_.remove(forker_pidfd_.get());
    to_forker_ = outbox{};
    forker_pidfd_.reset();
    reap_child(std::exchange(forker_, 0));
    family_.take_over_from_forker();
    if (++boots_failed_ == max_failed_boots) leave();
  }
  if (auto seat = fork_forker()) return seat;
  if (forker_ == 0) return std::nullopt;
  announce();
  for (const auto& [sequence, request] : std::exchange(relayed_, {})) perform(request);
  for (auto next = requests_.begin(); next != requests_.end();) {
    const auto& [id, worker_end] = *next++;
    pass_request(id, worker_end.get());
  }
  return std::nullopt;
}

void keeper::announce() {
  if (forker_ != 0) to_host_.push(servers{context_.epoch, ::getpid(), forker_});
}

void keeper::tell_all_workers() {
  // The dead keeper may have kept any of it to itself; the host knows what is new to it. A new
  // epoch is announced only after this, so that the host asks again for nothing that has been done.
  for (const auto& [id, worker] : family_.workers()) {
    if (worker.kin == kinship::hosts) continue;
    tell_host(forked{id, worker.pid}, worker);
    if (worker.ended) to_host_.push(exit_message(id, worker.exit), {}, id);
  }
}

void keeper::tell_host(const forked& report, const worker_record& worker) {
  // The host can make do without the pidfd, but not without the news.
  if (!to_host_.push(report, {worker.pidfd.get()})) to_host_.push(report);
}

void keeper::receive_from_host() {
  message received;
  for (int i = 0; i != 64; ++i) {
    const std::error_code error = to_host_.socket().receive(received);
    if (error == channel_errc::end_of_file) leave();
    if (error == channel_errc::oversized) continue;
    if (error && error != channel_errc::descriptors_lost) return;
    if (const auto decoded = decode_fork_message(received.bytes))
      dispatch_host(*decoded, received.fds);
  }
}

void keeper::receive_from_forker() {
  message received;
  for (;;) {
    const std::error_code error = to_forker_.socket().receive(received);
    if (error == channel_errc::end_of_file) {
      // Comes just before its pidfd says the same.
      poller_.remove(to_forker_.fd());
      return;
    }
    if (error && error != channel_errc::descriptors_lost) return;
    if (const auto decoded = decode_fork_message(received.bytes))
      dispatch_forker(*decoded, received.fds);
  }
}

void keeper::dispatch_host(const fork_message& received, std::vector<unique_fd>& fds) {
  std::visit(
      [&](const auto& m) {
        if constexpr (requires { from_host(m, fds); }) from_host(m, fds);
      },
      received);
}

void keeper::dispatch_forker(const fork_message& received, std::vector<unique_fd>& fds) {
  std::visit(
      [&](const auto& m) {
        if constexpr (requires { from_forker(m, fds); }) from_forker(m, fds);
      },
      received);
}

void keeper::from_host(const fork_request& request, std::vector<unique_fd>& fds) {
  if (!accepts_ || request.id >= fork_server::max_id) return;
  if (family_.find(request.id) != nullptr || requests_.contains(request.id)) return;
  if (fds.size() != 1) {
    to_host_.push(fork_failed{request.id, EMFILE});
    return;
  }
  const unique_fd& worker_end = requests_.emplace(request.id, std::move(fds.front())).first->second;
  if (forker_ != 0) pass_request(request.id, worker_end.get());
}

void keeper::pass_request(std::uint64_t id, int worker_end) {
  if (to_forker_.push(fork_request{id}, {worker_end})) return;
  to_host_.push(fork_failed{id, EMFILE});
  requests_.erase(id);
}

void keeper::from_host(const signal_request& request, std::vector<unique_fd>&) {
  if (!accepts_) return;
  const worker_record* const worker = family_.find(request.id);
  if (worker == nullptr || worker->kin != kinship::forkers) return perform(request);
  relayed_.emplace(request.sequence, request);
  to_forker_.push(request);
}

void keeper::from_host(const adopt_request& request, std::vector<unique_fd>& fds) {
  if (!accepts_ || request.id >= fork_server::max_id || fds.size() != 1) return;
  const worker_record& added =
      family_.add(request.id, {request.pid, std::move(fds.front()), kinship::hosts, false, {}});
  to_forker_.push(request, {added.pidfd.get()});
}

void keeper::from_host(const resume& request, std::vector<unique_fd>&) {
  accepts_ = accepts_ || request.epoch == context_.epoch;
}

void keeper::from_forker(const forked& report, std::vector<unique_fd>& fds) {
  const auto request = requests_.find(report.id);
  if (request == requests_.end()) return;
  if (fds.size() != 2) {
    // Not our child, but one that its parent does not reap before we say so: the number is still
    // its own.
    ::kill(report.pid, SIGKILL);
    to_host_.push(fork_failed{report.id, EMFILE});
    requests_.erase(request);
    return;
  }
  // The forker does so too; it may have died in between.
  release_worker(fds[1].get());
  requests_.erase(request);
  const worker_record& added =
      family_.add(report.id, {report.pid, std::move(fds[0]), kinship::forkers, false, {}});
  tell_host(report, added);
}

void keeper::from_forker(const fork_failed& report, std::vector<unique_fd>&) {
  if (requests_.erase(report.id) != 0) to_host_.push(report);
}

void keeper::from_forker(const exited& report, std::vector<unique_fd>&) {
  worker_record* const worker = family_.find(report.id);
  if (worker == nullptr) {
    to_forker_.push(reap_order{report.id});
    return;
  }
  worker->ended = true;
  worker->exit = {report.pid,
                  report.status,
                  report.known,
                  report.max_rss_bytes,
                  std::chrono::microseconds{report.user_us},
                  std::chrono::microseconds{report.system_us}};
  to_host_.push(report, {}, report.id);
}

void keeper::from_forker(const signalled& report, std::vector<unique_fd>&) {
  if (relayed_.erase(report.sequence) != 0) to_host_.push(report);
}

void keeper::from_forker(const forker_ready&, std::vector<unique_fd>&) {
  boots_failed_ = 0;
  forker_serves_ = true;
  context_.preload_report.reset();
}

void keeper::perform(const signal_request& request) {
  if (const worker_record* worker = family_.find(request.id))
    family_.signal(*worker, request.signal);
  to_host_.push(signalled{request.sequence});
}

void keeper::worker_ready(std::uint64_t id) {
  worker_record* const worker = family_.find(id);
  if (worker == nullptr || worker->ended) return;
  family_.note_end(*worker);
  if (!worker->ended) return;
  if (worker->kin == kinship::hosts)
    to_host_.push(gone{id}, {}, id);
  else
    to_host_.push(exit_message(id, worker->exit), {}, id);
}

void keeper::forget_reported() {
  for (const std::uint64_t id : to_host_.take_sent()) {
    const worker_record* const worker = family_.find(id);
    if (worker == nullptr) continue;
    if (worker->kin == kinship::forkers)
      to_forker_.push(reap_order{id});
    else
      to_forker_.push(gone{id});
    family_.forget(id);
  }
}

void keeper::leave() {
  const auto now = std::chrono::steady_clock::now();
  // While the forker is there it ends what is left if this process is killed here: it goes last.
  if (forker_ != 0 && forker_serves_) {
    to_forker_.push(leave_order{});
    to_forker_.flush();
  }
  family_.end_workers();
  await_guardians(family_.workers(), now + guardians_patience);
  if (forker_ != 0) {
    if (forker_serves_) ends_before(forker_pidfd_.get(), now + forkers_patience);
    ::kill(forker_, SIGKILL);
    while (::waitpid(forker_, nullptr, 0) < 0 && errno == EINTR) {
    }
    family_.take_over_from_forker();
    family_.end_workers();
  }
  end_children();
  // What was detached when a server died has gone to others.
  kill_sharers(host_fd, 0);
  ::_exit(0);
}

}  // namespace carom::runtime
