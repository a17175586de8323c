// SPDX-License-Identifier: BSL-1.0
#include "runtime/loop.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/system_error.hpp>
#include <carom/detail/start_path.hpp>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "runtime/above_stdio.hpp"
#include "runtime/clock.hpp"
#include "runtime/loop_thread.hpp"

namespace carom::runtime {

namespace asio = boost::asio;

namespace {
struct watched_descriptor;
}

struct loop::impl {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::vector<poller*> pollers;
  std::atomic<std::thread::id> thread{};
  std::atomic<bool> stopped{false};
  std::unordered_map<int, std::weak_ptr<watched_descriptor>> watched;

  /// The descriptor, known to Asio from now on if it was not.
  std::shared_ptr<watched_descriptor> find(int fd);

  bool poll_all() {
    bool found = false;
    // By index: a poller may add or remove pollers.
    for (std::size_t i = 0; i < pollers.size(); ++i)
      if (pollers[i]) found |= pollers[i]->poll();
    std::erase(pollers, nullptr);
    return found;
  }
  /// A share of what is ready: a flood of events must not starve the pollers.
  bool run_some() {
    constexpr int share = 64;
    constexpr std::int64_t share_ns = 200'000;
    int ran = 0;
    std::int64_t until = INT64_MAX;
    while (ran < share && io.poll_one() != 0) {
      ++ran;
      const std::int64_t now = steady_ns();
      if (now >= until) break;
      if (ran == 1) until = now + share_ns;
    }
    return ran != 0;
  }
  bool all_may_sleep() {
    bool may = true;
    for (std::size_t i = 0; i < pollers.size(); ++i)
      if (pollers[i]) may &= pollers[i]->before_sleep();
    return may;
  }
};

namespace {

thread_local bool runs_loop = false;

/// After work the loop looks again for so long before it sleeps: the answer to what it has just
/// sent is often there sooner than a sleep and a wake-up would take, on both sides.
constexpr std::int64_t linger_ns = 30'000;

using wait_type = asio::posix::stream_descriptor::wait_type;

/// A descriptor as Asio knows it: once, however many watches there are on it (epoll(7) takes no
/// descriptor twice). It stays the caller's.
struct watched_descriptor {
  asio::posix::stream_descriptor descriptor;

  watched_descriptor(asio::io_context& io, int fd) : descriptor(io, fd) {}
  watched_descriptor(const watched_descriptor&) = delete;
  watched_descriptor& operator=(const watched_descriptor&) = delete;
  ~watched_descriptor() { descriptor.release(); }
};

/// Shared with the handlers under way, which find out through `alive` that the watch is gone.
struct watch_state : std::enable_shared_from_this<watch_state> {
  std::shared_ptr<watched_descriptor> watched;
  wait_type event;
  std::function<void()> call;
  bool alive = true;

  watch_state(std::shared_ptr<watched_descriptor> what, wait_type wanted, std::function<void()> f)
      : watched(std::move(what)), event(wanted), call(std::move(f)) {}

  void wait() {
    watched->descriptor.async_wait(event,
                                   [self = shared_from_this()](boost::system::error_code error) {
                                     if (error || !self->alive) return;
                                     self->call();
                                     if (self->alive) self->wait();
                                   });
  }
};

class asio_watch final : public loop::watch {
 public:
  asio_watch(std::shared_ptr<watched_descriptor> what, wait_type event, std::function<void()> call)
      : state_(std::make_shared<watch_state>(std::move(what), event, std::move(call))) {
    state_->wait();
  }
  ~asio_watch() override {
    state_->alive = false;
    // The last watch on it gives the descriptor back here and now: its owner may close it.
    state_->watched.reset();
  }

 private:
  std::shared_ptr<watch_state> state_;
};

class asio_timer final : public loop::timer {
 public:
  asio_timer(asio::io_context& io, std::function<void()> call)
      : timer_(io), shared_(std::make_shared<shared>(shared{std::move(call), 0})) {}
  ~asio_timer() override { ++shared_->round; }

  void arm(std::chrono::nanoseconds after) override {
    timer_.expires_after(after);
    timer_.async_wait([round = ++shared_->round, s = shared_](boost::system::error_code error) {
      if (!error && s->round == round) s->call();
    });
  }
  void cancel() override {
    ++shared_->round;
    timer_.cancel();
  }

 private:
  struct shared {
    std::function<void()> call;
    std::uint64_t round;
  };
  asio::steady_timer timer_;
  std::shared_ptr<shared> shared_;
};

}  // namespace

std::shared_ptr<watched_descriptor> loop::impl::find(int fd) {
  auto& known = watched[fd];
  auto found = known.lock();
  if (!found) try {
      known = found = std::make_shared<watched_descriptor>(io, fd);
    } catch (const boost::system::system_error& e) {
      throw std::system_error(e.code().value(), std::system_category(),
                              "cannot watch a descriptor");
    }
  return found;
}

loop::loop() {
  const standard_numbers_taken by_us;
  impl_ = std::make_unique<impl>();
  // Asio opens what it waits with for the first timer.
  const asio::steady_timer first(impl_->io);
}
loop::~loop() = default;

void loop::run() {
  impl_->thread = std::this_thread::get_id();
  runs_loop = true;
  std::int64_t busy_at = 0;
  while (!impl_->stopped.load(std::memory_order_acquire)) {
    if (impl_->poll_all()) {
      impl_->run_some();
      busy_at = steady_ns();
    } else if (busy_at != 0 && steady_ns() - busy_at < linger_ns) {
      if (!impl_->run_some()) ::sched_yield();
    } else {
      busy_at = 0;
      if (impl_->all_may_sleep())
        impl_->io.run_one();
      else
        impl_->run_some();
    }
  }
}

CAROM_START_PATH bool on_loop_thread() noexcept { return runs_loop; }
void leave_loop_thread() noexcept { runs_loop = false; }

void loop::stop() {
  impl_->stopped.store(true, std::memory_order_release);
  post([] {});
}

bool loop::in_loop_thread() const noexcept { return impl_->thread == std::this_thread::get_id(); }

void loop::post(void (*task)(void*), void* argument) {
  asio::post(impl_->io, [task, argument] { task(argument); });
}
void loop::post(std::function<void()> task) { asio::post(impl_->io, std::move(task)); }

std::unique_ptr<loop::watch> loop::on_readable(int fd, std::function<void()> call) {
  return std::make_unique<asio_watch>(impl_->find(fd), wait_type::wait_read, std::move(call));
}
std::unique_ptr<loop::watch> loop::on_writable(int fd, std::function<void()> call) {
  return std::make_unique<asio_watch>(impl_->find(fd), wait_type::wait_write, std::move(call));
}
std::unique_ptr<loop::timer> loop::make_timer(std::function<void()> call) {
  return std::make_unique<asio_timer>(impl_->io, std::move(call));
}

void loop::add(poller& asked) { impl_->pollers.push_back(&asked); }
void loop::remove(poller& asked) {
  // Its place stays until the round is over, so that no other misses its turn.
  std::replace(impl_->pollers.begin(), impl_->pollers.end(), &asked, static_cast<poller*>(nullptr));
}

}  // namespace carom::runtime
