// SPDX-License-Identifier: BSL-1.0
#include "runtime/own_process.hpp"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <carom/init.hpp>
#include <cerrno>
#include <exception>
#include <ext/stdio_sync_filebuf.h>
#include <iostream>
#include <system_error>
#include <typeinfo>
#include <utility>

#include "runtime/child_process.hpp"
#include "runtime/log.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/worker_identity.hpp"

namespace carom::runtime {
namespace {

CAROM_START_DATA std::atomic<own_process*> current{nullptr};
/// What `set_parent_pidfd` said.
struct handed_over_pidfd {
  pid_t pid = 0;
  int pidfd = -1;
};
CAROM_START_DATA handed_over_pidfd handed_over;

std::string random_key() {
  std::string key(32, '\0');
  for (std::size_t have = 0; have < key.size();) {
    const ssize_t got = ::getrandom(key.data() + have, key.size() - have, 0);
    if (got < 0 && errno != EINTR)
      throw std::system_error(errno, std::system_category(), "getrandom");
    if (got > 0) have += static_cast<std::size_t>(got);
  }
  return key;
}

template <class F>
void run_logged(const char* what, const F& f) noexcept {
  try {
    f();
  } catch (const std::exception& e) {
    log()->error("{} threw: {}", what, e.what());
  } catch (...) {
    log()->error("{} threw something that is no std::exception", what);
  }
}

/// A stream that is as the standard makes it keeps nothing back: what it has taken is stdio's.
void flush_own_buffer(std::ostream& stream) {
  const std::streambuf* const buffer = stream.rdbuf();
  if (buffer == nullptr || typeid(*buffer) != typeid(__gnu_cxx::stdio_sync_filebuf<char>))
    stream.flush();
}

start_method valid_method(std::int32_t told) {
  const auto method = static_cast<start_method>(told);
  return method == start_method::fork || method == start_method::spawn ? method
                                                                       : start_method::forkserver;
}

}  // namespace

CAROM_START_PATH own_process& own_process::instance() {
  own_process* found = current.load(std::memory_order_acquire);
  while (!found || found->pid_ != ::getpid()) {
    // Never destroyed: asked until the very end. A forked copy does not touch the inherited lock.
    auto* fresh = new own_process;
    fresh->pid_ = ::getpid();
    if (found) {
      fresh->name_ = found->name_;
      fresh->identity_ = found->identity_;
      fresh->daemon_ = found->daemon_;
      fresh->parent_ = found->parent_;
      fresh->authkey_ = found->authkey_;
      fresh->method_ = found->method_.load(std::memory_order_relaxed);
      fresh->method_set_ = found->method_set_;
      fresh->after_fork_ = found->after_fork_;
    }
    if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
      found = fresh;
    else
      delete fresh;
  }
  return *found;
}

CAROM_START_PATH void own_process::set_parent_pidfd(pid_t parent, int pidfd) noexcept {
  handed_over.pid = parent;
  handed_over.pidfd = pidfd;
}

CAROM_START_PATH void own_process::become(serialization::origin_record told) {
  auto* self = new own_process;
  self->pid_ = ::getpid();
  self->name_ = std::move(told.name);
  self->identity_ = std::move(told.identity);
  self->daemon_ = told.daemon;
  self->authkey_ = std::move(told.authkey);
  self->method_ = valid_method(told.start_method);
  if (told.parent > 0) {
    self->parent_ = parent{told.parent, std::move(told.parent_name), -1};
    if (handed_over.pid == told.parent) self->parent_->pidfd = handed_over.pidfd;
  }
  for (const auto& record : told.after_fork) {
    try {
      self->after_fork_.push_back(detail::resolve_code({record.module, record.offset}));
    } catch (const unknown_task&) {
      log()->warn("a function of after_fork is not in this program");
    }
  }
  current.store(self, std::memory_order_release);
}

std::string own_process::name() {
  std::lock_guard lock(mutex_);
  return name_;
}

void own_process::set_name(std::string name) {
  std::lock_guard lock(mutex_);
  name_ = std::move(name);
}

bool own_process::daemon() {
  std::lock_guard lock(mutex_);
  return daemon_;
}

std::string own_process::authkey() {
  std::lock_guard lock(mutex_);
  if (authkey_.empty()) authkey_ = random_key();
  return authkey_;
}

void own_process::set_authkey(std::string key) {
  std::lock_guard lock(mutex_);
  authkey_ = std::move(key);
}

std::optional<own_process::parent> own_process::started_by() {
  std::lock_guard lock(mutex_);
  return parent_;
}

own_process::child_name own_process::name_next_child() {
  std::lock_guard lock(mutex_);
  child_name next;
  next.identity = (identity_.empty() ? "" : identity_ + ":") + std::to_string(++children_);
  next.name = "Process-" + next.identity;
  return next;
}

serialization::origin_record own_process::origin_of_child() {
  serialization::origin_record origin;
  origin.authkey = authkey();
  std::lock_guard lock(mutex_);
  origin.parent = pid_;
  origin.parent_name = name_;
  origin.start_method = static_cast<std::int32_t>(method());
  for (const auto code : after_fork_) {
    const auto ref = detail::to_code_ref(code);
    origin.after_fork.push_back({ref.module, ref.offset});
  }
  return origin;
}

bool own_process::set_method(start_method method, bool force) {
  std::lock_guard lock(mutex_);
  if (method_set_ && !force) return false;
  method_set_ = true;
  method_ = method;
  return true;
}

void own_process::at_exit(std::function<void()> f) {
  std::lock_guard lock(mutex_);
  at_exit_.push_back(std::move(f));
}

CAROM_START_PATH void own_process::run_at_exit() {
  for (;;) {
    std::function<void()> last;
    {
      // One by one: they may register more.
      std::lock_guard lock(mutex_);
      if (at_exit_.empty()) return;
      last = std::move(at_exit_.back());
      at_exit_.pop_back();
    }
    run_logged("a function of at_exit", last);
  }
}

void own_process::after_fork(detail::code_pointer f) {
  std::lock_guard lock(mutex_);
  after_fork_.push_back(f);
}

CAROM_START_PATH void own_process::run_after_fork() {
  std::vector<detail::code_pointer> all;
  {
    std::lock_guard lock(mutex_);
    all = after_fork_;
  }
  for (const auto f : all) run_logged("a function of after_fork", f);
}

void install_exit_guard() {
  // A forked copy inherits the registration but is another process, which may want its own.
  static std::atomic<pid_t> guarded{0};
  const pid_t self = ::getpid();
  if (identity().pid == self) return;  // a worker: exit() in a task is no orderly end
  if (guarded.exchange(self) == self) return;
  std::atexit([] {
    if (guarded.load() == ::getpid()) end_in_order();
  });
}

CAROM_START_PATH void end_in_order() noexcept {
  CAROM_START_DATA static std::atomic<pid_t> ended{0};
  if (ended.exchange(::getpid()) == ::getpid()) return;
  run_logged("the end of the process", [] { own_process::instance().run_at_exit(); });
  run_logged("the end of the process", [] { child_process::end_all(); });
}

CAROM_START_PATH void flush_and_leave(int status) noexcept {
  run_logged("the last flush", [] {
    flush_own_buffer(std::cout);
    flush_own_buffer(std::clog);
  });
  ::fflush(nullptr);
  ::_exit(status);
}

}  // namespace carom::runtime

namespace carom {

using namespace runtime;

std::string_view to_string(start_method method) noexcept {
  switch (method) {
    case start_method::forkserver: return "forkserver";
    case start_method::fork: return "fork";
    case start_method::spawn: return "spawn";
  }
  return "?";
}

start_method get_start_method() noexcept { return own_process::instance().method(); }

void at_exit(std::function<void()> f) {
  if (!f) throw std::invalid_argument("at_exit: there is no function to run");
  own_process::instance().at_exit(std::move(f));
  install_exit_guard();
}

void after_fork(void (*f)()) {
  if (!f) throw std::invalid_argument("after_fork: there is no function to run");
  own_process::instance().after_fork(f);
}

}  // namespace carom
