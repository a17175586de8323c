// SPDX-License-Identifier: BSL-1.0
#include "actors/seat.hpp"

#include <carom/detail/exception_codec.hpp>
#include <chrono>
#include <utility>

#include "actors/callbacks.hpp"
#include "runtime/log.hpp"
#include "runtime/pidfd.hpp"

namespace carom::actors {

namespace {

constexpr std::chrono::milliseconds retry_starved_every{10};

}  // namespace

seat::seat(std::uint32_t index, std::uint64_t id, const serialization::setup_message& setup,
           runtime::loop& events, owner& to)
    : index_(index),
      id_(id),
      events_(&events),
      owner_(&to),
      link_(id, setup),
      has_initializer_(setup.has_initializer) {
  readable_ = events_->on_readable(
      link_.fd(), [this] { guarded("its channel could not be read", [this] { read_channel(); }); });
  if (setup.forwards_log) log_name_ = "carom-" + setup.pool_name + "-" + std::to_string(index);
}

/// A fault of ours ends this worker, and not the host.
template <class F>
void seat::guarded(const char* otherwise, F&& f) noexcept {
  if (!unless_it_throws(otherwise, std::forward<F>(f)))
    unless_it_throws(otherwise, [&] { worker_corrupt(otherwise); });
}

void seat::sit(pid_t pid, runtime::unique_fd pidfd, std::optional<runtime::unique_fd> own) {
  pid_ = pid;
  own_ = std::move(own);
  pidfd_ = std::move(pidfd);
  if (!pidfd_) return;
  guarded("its end cannot be watched", [this] {
    death_ = events_->on_readable(pidfd_.get(), [this] {
      // Readiness is a hint: one that was meant for a descriptor closed a moment ago may come here.
      if (!runtime::has_ended(pidfd_.get())) return;
      death_.reset();
      owner_->worker_gone(*this);
    });
  });
}

void seat::read_channel() {
  // The end of the channel is no death: a grandchild may hold it, and the pidfd will tell.
  if (!link_.read(*this)) readable_.reset();
  // A ring that found the channel full was left out by the worker: whatever filled it rings too.
  if (!buried) owner_->results_waiting(*this);
}

void seat::watch_writable() {
  const auto flush = [this] {
    guarded("nothing could be sent to it", [this] {
      link_.flush();
      if (!link_.wants_write() || link_.starved()) watch_writable();
    });
  };
  if (!link_.wants_write()) {
    writable_.reset();
  } else if (link_.starved()) {
    // It can be written to, says the kernel, and then it cannot: the loop would spin.
    writable_.reset();
    if (!retry_)
      retry_ = events_->make_timer([this, flush] {
        retries_ = false;
        flush();
        guarded("nothing could be sent to it", [this] { watch_writable(); });
      });
    if (!std::exchange(retries_, true)) retry_->arm(retry_starved_every);
  } else if (!writable_) {
    writable_ = events_->on_writable(link_.fd(), flush);
  }
}

void seat::worker_ready() {
  ready_ = true;
  if (up()) owner_->worker_ready(*this);
}

void seat::worker_start_failed(std::span<const std::byte> exception) {
  try {
    std::rethrow_exception(detail::decode_exception(exception));
  } catch (const std::exception& e) {
    start_error_ =
        std::string(has_initializer_ ? "the initializer threw: " : "it could not start: ") +
        e.what();
  } catch (...) {
    start_error_ = has_initializer_ ? "the initializer threw something that is no std::exception"
                                    : "it could not start";
  }
}

void seat::worker_rang() { owner_->results_waiting(*this); }
void seat::worker_logged(int level, const std::string& text) {
  if (log_name_.empty()) return worker_corrupt("it logged what nobody had asked for");
  log()->log(static_cast<spdlog::level::level_enum>(level), "{}: {}", log_name_, text);
}
void seat::worker_corrupt(const char* what) { owner_->worker_corrupt(*this, what); }

}  // namespace carom::actors
