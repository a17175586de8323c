// SPDX-License-Identifier: BSL-1.0
#include "tests/support/eventually.hpp"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace carom::test {

void let_pass(std::chrono::nanoseconds time) {
  ::timespec left{static_cast<time_t>(time.count() / 1'000'000'000), time.count() % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  for (std::chrono::nanoseconds pause = std::chrono::microseconds(100);;
       pause = std::min<std::chrono::nanoseconds>(2 * pause, std::chrono::milliseconds(20))) {
    if (condition()) return true;
    if (std::chrono::steady_clock::now() >= end) return condition();
    let_pass(pause);
  }
}

#ifdef __SANITIZE_ADDRESS__
namespace {

bool others_sleep() {
  std::error_code error;
  for (const auto& one : std::filesystem::directory_iterator("/proc/self/task", error)) {
    if (one.path().filename() == std::to_string(::gettid())) continue;
    std::string stat;
    std::getline(std::ifstream(one.path() / "stat"), stat);
    const auto name_end = stat.rfind(')');
    if (name_end != std::string::npos && stat.compare(name_end, 3, ") S") != 0) return false;
  }
  return true;
}

}  // namespace

void let_threads_rest() { (void)eventually(others_sleep, std::chrono::milliseconds(100)); }
#else
void let_threads_rest() {}
#endif

bool wait_for_end(int pidfd, std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    ::pollfd waited{pidfd, POLLIN, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(std::max<long>(0, left.count())));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

}  // namespace carom::test
