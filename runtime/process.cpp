// SPDX-License-Identifier: BSL-1.0
#include <carom/process.hpp>

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "runtime/child_process.hpp"
#include "runtime/own_process.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/process_body.hpp"

namespace carom::detail {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw process_error(what); }

}  // namespace

void process_body::set_name(std::string) { refuse("the name of another process cannot be set"); }
bool process_body::daemon() { refuse("only the process that started it knows whether it is one"); }
void process_body::set_daemon(bool) { refuse("a process that runs stays a daemon, or none"); }
void process_body::start() { refuse("this process runs already: start() is for a new one"); }
void process_body::signal(int) {
  refuse("only children are terminated or killed through their handles: use exit or kill(2)");
}
void process_body::terminate_controlled() { signal(SIGTERM); }
std::string process_body::authkey() { refuse("another process's authkey is not known"); }
void process_body::set_authkey(std::string) { refuse("another process's authkey cannot be set"); }
void process_body::close() { refuse("this process still runs: close() is for ended children"); }

struct process_access {
  static process_handle make(std::shared_ptr<process_body> body) {
    return process_handle(std::move(body));
  }
  /// The owner of a child lets go of it.
  static void abandon(process_handle& owner) noexcept {
    if (owner.body_) static_cast<runtime::child_process&>(*owner.body_).abandon();
  }
};

}  // namespace carom::detail

namespace carom {

using runtime::child_process;
using runtime::own_process;

namespace {

/// This process.
class self_body final : public detail::process_body {
 public:
  std::string name() override { return own_process::instance().name(); }
  void set_name(std::string name) override { own_process::instance().set_name(std::move(name)); }
  bool daemon() override { return own_process::instance().daemon(); }
  bool join(std::optional<std::chrono::nanoseconds>) override {
    throw process_error(
        "a process that joins itself would wait for ever: only children are joined");
  }
  bool is_alive() override { return true; }
  pid_t pid() override { return ::getpid(); }
  int sentinel() override {
    throw process_error("a process has no sentinel of itself: it would wait for its own end");
  }
  std::string authkey() override { return own_process::instance().authkey(); }
  void set_authkey(std::string key) override {
    own_process::instance().set_authkey(std::move(key));
  }
};

/// The process that started this one.
class parent_body final : public detail::process_body {
 public:
  explicit parent_body(own_process::parent told) : parent_(std::move(told)) {}

  std::string name() override { return parent_.name; }
  bool join(std::optional<std::chrono::nanoseconds> timeout) override {
    using clock = std::chrono::steady_clock;
    if (parent_.pidfd < 0) return true;  // it had ended when this one began
    const auto now = clock::now();
    const bool endless = !timeout || *timeout > clock::time_point::max() - now;
    for (;;) {
      this_task::checkpoint();
      int patience = 3'600'000;
      if (!endless) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(now + *timeout - clock::now()).count();
        patience = static_cast<int>(std::clamp<long>(left, 0, patience));
      }
      pollfd waited{sentinel(), POLLIN, 0};
      const int ready = ::poll(&waited, 1, patience);
      if (ready > 0) return true;
      if (ready == 0 && !endless && clock::now() >= now + *timeout) return false;
    }
  }
  bool is_alive() override { return parent_.pidfd >= 0 && !runtime::has_ended(parent_.pidfd); }
  pid_t pid() override { return parent_.pid; }
  int sentinel() override {
    if (parent_.pidfd < 0) throw process_error("the parent has ended: there is no sentinel of it");
    return parent_.pidfd;
  }

 private:
  own_process::parent parent_;
};

}  // namespace

detail::process_body& process_handle::body() const {
  if (!body_) throw process_error("this handle means no process: it is empty or was moved from");
  return *body_;
}

std::string process_handle::name() const { return body().name(); }
void process_handle::set_name(std::string name) {
  if (name.empty()) throw std::invalid_argument("the name of a process must not be empty");
  body().set_name(std::move(name));
}
bool process_handle::daemon() const { return body().daemon(); }
void process_handle::set_daemon(bool daemon) { body().set_daemon(daemon); }
void process_handle::start() { body().start(); }
bool process_handle::join_for(std::optional<std::chrono::nanoseconds> timeout) const {
  return body().join(timeout);
}
void process_handle::terminate() const { body().signal(SIGTERM); }
void process_handle::kill() const { body().signal(SIGKILL); }
void process_handle::terminate_controlled() const { body().terminate_controlled(); }
bool process_handle::controlled_termination() const { return body().controlled_termination(); }
bool process_handle::is_alive() const { return body().is_alive(); }
pid_t process_handle::pid() const { return body().pid(); }
std::optional<int> process_handle::exitcode() const { return body().exitcode(); }
int process_handle::sentinel() const { return body().sentinel(); }
std::string process_handle::authkey() const { return body().authkey(); }
void process_handle::set_authkey(std::string key) {
  if (key.empty()) throw std::invalid_argument("an authkey must not be empty");
  body().set_authkey(std::move(key));
}
void process_handle::close() const { body().close(); }

bool process_handle::same(const process_handle& other) const noexcept {
  if (body_ == other.body_) return true;
  if (!body_ || !other.body_) return false;
  const pid_t pid = body_->pid();
  // Each call of current_process() makes a body; a child has one.
  const auto is_child = [](const auto& body) {
    return dynamic_cast<child_process*>(body.get()) != nullptr;
  };
  return pid != 0 && pid == other.body_->pid() && !is_child(body_) && !is_child(other.body_);
}

process::process(packed_call call, process_options options)
    : process_handle(std::make_shared<child_process>(std::move(call), std::move(options))) {}

process& process::operator=(process&& other) noexcept {
  if (this != &other) {
    detail::process_access::abandon(*this);
    process_handle::operator=(std::move(other));
  }
  return *this;
}

process::~process() { detail::process_access::abandon(*this); }

int get_pdeathsig() {
  int signal = 0;
  if (::prctl(PR_GET_PDEATHSIG, &signal) != 0)
    throw std::system_error(errno, std::system_category(), "prctl(PR_GET_PDEATHSIG)");
  return signal;
}

void set_pdeathsig(int signal) {
  if (signal < 0 || signal > SIGRTMAX)
    throw std::invalid_argument("there is no signal " + std::to_string(signal) + ": choose 1 to " +
                                std::to_string(SIGRTMAX) + ", or 0 for none");
  // The kernel forgets it with the thread that asked for it.
  if (::syscall(SYS_gettid) != ::getpid())
    throw process_error("set_pdeathsig: call it on the main thread of the process");
  const pid_t parent = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, signal) != 0)
    throw std::system_error(errno, std::system_category(), "prctl(PR_SET_PDEATHSIG)");
  // It may have died before the kernel was told.
  if (signal != 0 && ::getppid() != parent) ::raise(signal);
}

std::string human_status(int exitcode) {
  if (exitcode >= 0) return "exitcode " + std::to_string(exitcode);
  const std::int64_t signal = -std::int64_t{exitcode};
  const char* name = signal < NSIG ? ::sigabbrev_np(static_cast<int>(signal)) : nullptr;
  return "signal " + std::to_string(signal) + (name ? " (SIG" + std::string(name) + ")" : "");
}

process_handle current_process() {
  return detail::process_access::make(std::make_shared<self_body>());
}

std::optional<process_handle> parent_process() {
  auto told = own_process::instance().started_by();
  if (!told) return std::nullopt;
  return detail::process_access::make(std::make_shared<parent_body>(std::move(*told)));
}

std::vector<process_handle> active_children() {
  std::vector<process_handle> all;
  for (auto& child : child_process::active())
    if (!child->is_probe() && child->is_alive())
      all.push_back(detail::process_access::make(std::move(child)));
  return all;
}

}  // namespace carom
