// SPDX-License-Identifier: BSL-1.0
#include "runtime/crash_report.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/stacktrace/safe_dump_to.hpp>
#include <carom/detail/start_path.hpp>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <utility>

#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

constexpr std::array crashes{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
/// Room for the unwinder, which is deep.
constexpr std::size_t stack_bytes = 64 * 1024;

CAROM_START_DATA crash_report* report_here = nullptr;
CAROM_START_DATA void* own_stack = nullptr;
std::atomic<bool> crashed{false};
CAROM_START_DATA const void* left_page = nullptr;

/// Whether this process is a copy that has come back from the task which has forked it.
bool has_returned(int signal, const siginfo_t& info) noexcept {
  const auto page = reinterpret_cast<std::uintptr_t>(left_page);
  const auto at = reinterpret_cast<std::uintptr_t>(info.si_addr);
  return signal == SIGSEGV && page != 0 && at >= page && at - page < sizeof(worker_page);
}

/// Only what signal-safety(7) allows: the modules were listed beforehand.
void on_crash(int signal, siginfo_t* info, void*) {
  if (has_returned(signal, *info)) end_if_returned_copy();
  if (report_here && !crashed.exchange(true)) {
    std::array<const void*, crash_report::most_frames + 2> raw{};
    // The handler itself is left out; behind the last frame stands a null.
    const std::size_t count = std::min<std::size_t>(
        boost::stacktrace::safe_dump_to(1, raw.data(), sizeof raw), crash_report::most_frames);
    crash_report& to = *report_here;
    to.signal = signal;
    to.fault_address = reinterpret_cast<std::uint64_t>(info->si_addr);
    std::uint32_t kept = 0;
    for (std::size_t i = 0; i < count && raw[i]; ++i, ++kept) {
      const auto found = peer_offset(reinterpret_cast<std::uintptr_t>(raw[i]));
      to.modules[kept] = found.module;
      to.frames[kept] = found.offset;
    }
    to.frame_count.store(kept, std::memory_order_release);
  }
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  ::raise(signal);  // delivered when this handler returns
}

}  // namespace

CAROM_START_PATH void report_crashes_to(crash_report& report) {
  report_here = &report;
  left_page = nullptr;
}

CAROM_START_PATH void report_crashes_nowhere() noexcept { report_here = nullptr; }

void expect_no_return_to(const worker_page& page) noexcept {
  // The hole that MADV_DONTFORK has left would be the next large allocation's.
  if (::mmap(const_cast<worker_page*>(&page), sizeof page, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
             0) != MAP_FAILED)
    left_page = &page;
}

void end_if_returned_copy() noexcept {
  if (left_page == nullptr) return;
  constexpr std::string_view why =
      "carom: a process that a task has forked has returned from that task: let it end with "
      "_exit(2), or execute a program\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, why.data(), why.size());
  ::_exit(EXIT_FAILURE);
}

void install_crash_report() {
  report_here = nullptr;  // in a server below a worker: that worker's, which is not mapped here
  void* stack = ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return;
  const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = stack_bytes};
  ::sigaltstack(&alternate, nullptr);
  own_stack = stack;
  struct sigaction action {};
  action.sa_sigaction = &on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : crashes) {
    struct sigaction before {};
    // What the host program has set up itself, a sanitizer for one, is left alone.
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_DFL)
      ::sigaction(signal, &action, nullptr);
  }
}

CAROM_START_PATH void remove_crash_report() noexcept {
  if (own_stack == nullptr) return;  // there is none
  for (const int signal : crashes) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_sigaction == &on_crash)
      ::signal(signal, SIG_DFL);
  }
  stack_t stack{};
  if (::sigaltstack(nullptr, &stack) != 0 || stack.ss_sp != own_stack) return;
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  ::sigaltstack(&none, nullptr);
  ::munmap(std::exchange(own_stack, nullptr), stack_bytes);
}

void prepare_crash_reports() {
  std::array<const void*, 4> frames{};
  boost::stacktrace::safe_dump_to(frames.data(), sizeof frames);
}

std::string describe_crash(const crash_report& report) {
  const std::uint32_t count =
      std::min(report.frame_count.load(std::memory_order_acquire), crash_report::most_frames);
  std::string text;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::array<char, 24> number{};
    std::snprintf(number.data(), number.size(), "%2u# ", i);
    text += number.data();
    // A return address is behind its call, which may be the last thing in a function.
    text += describe_code({report.modules[i], report.frames[i]}, i != 0);
    text += '\n';
  }
  return text;
}

}  // namespace carom::runtime
