// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace carom::runtime {

/// One thread's event loop, an Asio io_context behind a seam. `post` and `stop` are thread-safe;
/// all else belongs to the thread that runs the loop, or to nobody while it does not run.
class loop {
 public:
  using nanoseconds = std::chrono::nanoseconds;

  /// Asked between events.
  struct poller {
    /// Does what there is to do; says whether there was anything.
    virtual bool poll() = 0;
    /// The loop is about to sleep: from now on news must ring it. False if there are some already.
    virtual bool before_sleep() = 0;

   protected:
    ~poller() = default;
  };

  /// Calls back whenever the descriptor may be ready, until it is destroyed. Now and then it is
  /// not: an event of a descriptor closed just before can reach the next one of that number.
  class watch {
   public:
    virtual ~watch() = default;
  };
  /// Calls back once per `arm`; arming again or destroying it takes the former call back.
  class timer {
   public:
    virtual ~timer() = default;
    virtual void arm(nanoseconds after) = 0;
    virtual void cancel() = 0;
  };

  loop();
  ~loop();

  /// Runs until `stop`.
  void run();
  void stop();
  bool in_loop_thread() const noexcept;

  /// Runs `task(argument)` on the loop, after what was posted before.
  void post(void (*task)(void*), void* argument);
  void post(std::function<void()> task);

  /// The descriptor stays the caller's, who destroys the watch before closing it.
  std::unique_ptr<watch> on_readable(int fd, std::function<void()> call);
  std::unique_ptr<watch> on_writable(int fd, std::function<void()> call);
  std::unique_ptr<timer> make_timer(std::function<void()> call);

  void add(poller& asked);
  void remove(poller& asked);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace carom::runtime
