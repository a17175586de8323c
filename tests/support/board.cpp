// SPDX-License-Identifier: BSL-1.0
#include "tests/support/board.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <string>
#include <system_error>

namespace carom::test::board {
namespace {

using word = std::atomic<std::uint32_t>;

constexpr const char* variable = "CAROM_TEST_BOARD";

word* words = nullptr;
int memory = -1;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

long futex(word& at, int operation, std::uint32_t value, const ::timespec* timeout) {
  return ::syscall(SYS_futex, &at, operation, value, timeout, nullptr, 0);
}

}  // namespace

void open(int fd) {
  // Programs that carom runs anew have nothing of ours but the environment.
  constexpr std::size_t size = slots * sizeof(word);
  memory = fd;
  if (const char* known = std::getenv(variable); memory < 0 && known)
    memory = ::open(known, O_RDWR | O_CLOEXEC);
  if (memory < 0) {
    memory = ::memfd_create("carom-test-board", MFD_CLOEXEC);
    if (memory < 0 || ::ftruncate(memory, size) != 0) fail("board");
  }
  const auto path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory);
  ::setenv(variable, path.c_str(), 1);
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mapped == MAP_FAILED) fail("board: mmap");
  words = static_cast<word*>(mapped);
}

int fd() { return memory; }

void hide() { ::unsetenv(variable); }

void reset() {
  if (!words) open();  // a main that is not ours
  for (unsigned slot = 0; slot < slots; ++slot)
    if (words[slot] != 0) words[slot] = 0;
}

std::uint32_t get(unsigned slot) { return words[slot]; }

void set(unsigned slot, std::uint32_t value) {
  words[slot] = value;
  futex(words[slot], FUTEX_WAKE, INT_MAX, nullptr);
}

std::uint32_t add(unsigned slot, std::uint32_t amount) {
  const std::uint32_t was = words[slot].fetch_add(amount);
  futex(words[slot], FUTEX_WAKE, INT_MAX, nullptr);
  return was;
}

bool wait(unsigned slot, std::uint32_t value, std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const std::uint32_t seen = words[slot];
    if (seen >= value) return true;
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    const ::timespec timeout{static_cast<time_t>(ns / 1'000'000'000), ns % 1'000'000'000};
    futex(words[slot], FUTEX_WAIT, seen, &timeout);
  }
}

}  // namespace carom::test::board
