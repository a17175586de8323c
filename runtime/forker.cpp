// SPDX-License-Identifier: BSL-1.0
#include "runtime/forker.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <carom/detail/blob.hpp>
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/start_path.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/exit_hook.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/keeper.hpp"
#include "runtime/modules.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {

using namespace serialization;

forker::forker(forker_seat seat)
    : context_(std::move(seat.context)),
      keeper_pidfd_(std::move(seat.keeper_pidfd)),
      family_(poller_, children_tag),
      to_keeper_(std::move(seat.to_keeper)),
      inherited_(std::move(seat.inherited)) {
  ::setsid();
  ::prctl(PR_SET_NAME, "carom-forker");
  // Orphans of its workers come to it: they are still ours when the keeper dies.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (auto& [id, worker] : inherited_)
    if (worker.kin != kinship::hosts) worker.kin = kinship::stranger;
  poller_.add(to_keeper_.fd(), peer_channel_tag);
  poller_.add(keeper_pidfd_.get(), peer_pidfd_tag);
  poller_.add(context_.host_pidfd.get(), host_tag);
}

keeper_seat forker::serve() {
  boot();
  to_keeper_.push(forker_ready{});
  while (!keeper_gone_) {
    poller_.follow(to_keeper_, peer_channel_tag, watches_room_);
    for (const poller::event& event : poller_.wait(to_keeper_.starved() ? retry_ms : -1)) {
      switch (event.tag) {
        case peer_channel_tag:
          if (event.readable) receive();
          break;
        case peer_pidfd_tag: keeper_gone_ = true; break;
        case host_tag: leave();
        case children_tag: family_.children_changed(); break;
        default: worker_ready(event.tag);
      }
    }
    to_keeper_.flush();
    release_reported();
    family_.sweep();
  }
  return succeed();
}

void forker::preload() {
  if (context_.hooks.preload == nullptr) return;
  preload_report said;
  detail::blob packed;
  try {
    context_.hooks.preload();
  } catch (...) {
    said.failed = true;
    detail::encode_exception(packed, detail::caught_exception(), ::getpid());
    if (packed.size() > preload_report::longest) packed.clear();
    said.length = static_cast<std::uint32_t>(packed.size());
  }
  if (context_.preload_report) {
    packed.reserve(1);
    const iovec parts[] = {{&said, sizeof said}, {packed.data(), packed.size()}};
    // Blocks at most until the host, which waits for it, has read it.
    [[maybe_unused]] const ssize_t ignored = ::writev(context_.preload_report.get(), parts, 2);
    context_.preload_report.reset();
  }
  if (said.failed) ::_exit(1);
}

namespace {

/// Leaves memory of every small size free, side by side: what lay free before is spread over the
/// heap, and each page of it that a new process takes from is a page fault and a copy. malloc(3) of
/// the GNU library gives out first what was freed last, of the few that it keeps of each size.
void stock_up() {
  constexpr std::size_t step = 16, least = 24, small = 136, most = 600, kept = 7;
  constexpr std::size_t sizes = (most - least) / step + 1;
  std::vector<void*> before, stock;
  before.reserve(kept * sizes);
  stock.reserve(kept * sizes);
  const auto lay = [](std::vector<void*>& into, std::size_t from, std::size_t to) {
    for (std::size_t round = 0; round != kept; ++round)
      for (std::size_t size = from; size >= to; size -= step) into.push_back(std::malloc(size));
  };
  lay(before, most, least);
  lay(stock, most, small + step);
  lay(stock, small, least);
  for (void* const one : stock) std::free(one);
  for (void* const one : before) std::free(one);
}

}  // namespace

void forker::boot() {
  if (!std::exchange(context_.booted, true)) {
    preload();
    inherit_peer_modules();
    if (context_.hooks.boot != nullptr) context_.hooks.boot();
    register_exit_hook();
  }
  context_.handle_fds = descriptors_of_handles();
  stock_up();
  // What the hook has printed would be printed again by each worker.
  std::fflush(nullptr);
}

void forker::receive() {
  message received;
  // A few at a time: exits are seen between forks.
  for (int i = 0; i != 16; ++i) {
    const std::error_code error = to_keeper_.socket().receive(received);
    if (error == std::errc::operation_would_block) return;
    if (error == channel_errc::end_of_file) {
      // Comes just before the keeper's pidfd says the same; wait for that, or for the host's.
      poller_.remove(to_keeper_.fd());
      to_keeper_ = outbox{};
      return;
    }
    if (error && error != channel_errc::descriptors_lost) return;
    if (const auto decoded = decode_fork_message(received.bytes)) dispatch(*decoded, received.fds);
  }
}

void forker::dispatch(const fork_message& received, std::vector<unique_fd>& fds) {
  std::visit(
      [&](const auto& m) {
        if constexpr (requires { on(m, fds); }) on(m, fds);
      },
      received);
}

CAROM_START_PATH void forker::on(const fork_request& request, std::vector<unique_fd>& fds) {
  const auto fail = [&](int error) { to_keeper_.push(fork_failed{request.id, error}); };
  if (family_.find(request.id) != nullptr) return;
  if (fds.size() != 1) return fail(EMFILE);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(errno);
  const unique_fd wait_end{ends[0]};
  unique_fd release_end{ends[1]};
  const pid_t pid = ::fork();
  if (pid < 0) return fail(errno);
  if (pid == 0) run_worker(context_, fds.front().get(), wait_end.get());
  // In both processes, so that neither goes on before it is so.
  ::setpgid(pid, pid);
  unique_fd pidfd = open_pidfd(pid);
  int error = pidfd ? 0 : errno;
  if (error == 0 &&
      !to_keeper_.push(forked{request.id, pid}, {pidfd.get(), release_end.get()}, request.id))
    error = EMFILE;
  if (error != 0) {
    ::kill(pid, SIGKILL);
    return fail(error);
  }
  family_.add(request.id, {pid, std::move(pidfd), kinship::own, false, {}});
  unreleased_.emplace(request.id, std::move(release_end));
  release_reported();
}

void forker::on(const signal_request& request, std::vector<unique_fd>&) {
  if (const worker_record* worker = family_.find(request.id))
    family_.signal(*worker, request.signal);
  to_keeper_.push(signalled{request.sequence});
}

void forker::on(const adopt_request& request, std::vector<unique_fd>& fds) {
  if (fds.size() == 1)
    inherited_.insert_or_assign(
        request.id, worker_record{request.pid, std::move(fds.front()), kinship::hosts, false, {}});
}

void forker::on(const reap_order& order, std::vector<unique_fd>&) { family_.forget(order.id); }

void forker::on(const leave_order&, std::vector<unique_fd>&) { leave(); }

void forker::on(const gone& notice, std::vector<unique_fd>&) { inherited_.erase(notice.id); }

void forker::worker_ready(std::uint64_t id) {
  worker_record* const worker = family_.find(id);
  if (worker == nullptr || worker->ended) return;
  family_.note_end(*worker);
  if (worker->ended) to_keeper_.push(exit_message(id, worker->exit));
}

void forker::release_reported() {
  for (const std::uint64_t id : to_keeper_.take_sent()) {
    const auto found = unreleased_.find(id);
    if (found == unreleased_.end()) continue;
    release_worker(found->second.get());
    unreleased_.erase(found);
  }
}

keeper_seat forker::succeed() {
  for (const auto& [id, release_end] : unreleased_) release_worker(release_end.get());
  keeper_seat seat{std::move(context_), family_.release()};
  seat.workers.merge(inherited_);
  ++seat.context.epoch;
  return seat;
}

void forker::leave() {
  family_.end_workers();
  // The keeper does the same, but it may be gone as well.
  for (const auto& [id, worker] : inherited_)
    if (worker.kin == kinship::stranger) kill_without_parent(worker);
  end_children();
  await_guardians(inherited_, std::chrono::steady_clock::now() + guardians_patience);
  const pid_t keeper = has_ended(keeper_pidfd_.get()) ? 0 : ::getppid();
  kill_sharers(host_fd, keeper);
  end_children();
  ::_exit(0);
}

}  // namespace carom::runtime
