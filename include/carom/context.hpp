// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <carom/export.hpp>
#include <carom/init.hpp>
#include <carom/pool.hpp>
#include <carom/process.hpp>
#include <carom/start_method.hpp>
#include <optional>
#include <string>
#include <utility>

namespace carom {

/// Makes processes and pools that all start the same way (billiard: context objects). A small
/// value: copy it. Thread-safe.
class CAROM_API context {
 public:
  /// Of the default method, whatever that is when something is made.
  context() noexcept = default;
  explicit context(carom::start_method method) noexcept : method_(method) {}

  start_method get_start_method() const noexcept {
    return method_ ? *method_ : carom::get_start_method();
  }

  /// A process that is to run `f(args...)`; not started yet.
  template <class F, class... As>
  requires(!std::is_same_v<std::remove_cvref_t<F>, process_options>) process
      make_process(F&& f, As&&... args)
  const { return make_process(process_options{}, std::forward<F>(f), std::forward<As>(args)...); }
  /// The same with options, whose start method does not count.
  template <class F, class... As>
  process make_process(process_options options, F&& f, As&&... args) const {
    options.start_method = get_start_method();
    return process(std::move(options), std::forward<F>(f), std::forward<As>(args)...);
  }
  pool make_pool(pool_options options = {}) const {
    options.start_method = get_start_method();
    return pool(std::move(options));
  }

 private:
  std::optional<start_method> method_{};
};

/// The default context, and the one of a method.
inline context get_context() noexcept { return context(); }
inline context get_context(start_method method) noexcept { return context(method); }

/// Sets the default start method of this process and what it starts, once: process_error the second
/// time, unless `force` says that it is meant. Thread-safe.
CAROM_API void set_start_method(start_method method, bool force = false);

/// Those that there are, the default first.
constexpr std::array<start_method, 3> get_all_start_methods() noexcept {
  return {start_method::forkserver, start_method::fork, start_method::spawn};
}

/// The program that start_method::spawn runs, instead of this one: opened now, so that later
/// changes of the file do not matter. Its main must call `carom::init`; functions that it does not
/// have are unknown_task there. Throws std::system_error if it cannot be opened or run, and for a
/// script (#!), which the kernel cannot run by what is open. Thread-safe.
CAROM_API void set_executable(const std::string& path);

/// False makes start_method::spawn the default, so that nothing runs in a mere copy of this
/// program; true changes nothing. For code that has called it in billiard.
CAROM_API void forking_enable(bool enable);

}  // namespace carom
