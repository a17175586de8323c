// SPDX-License-Identifier: BSL-1.0
#include "soak_tasks.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <carom/this_task.hpp>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace bench::soak_tasks {

namespace {

/// Far more than are under way at a time: a slot is read before it is used again.
constexpr std::uint64_t slots = 1 << 20;

struct board_slot {
  std::atomic<std::uint64_t> task;
  std::atomic<std::uint32_t> begun;
};
board_slot* board = nullptr;

void begin(std::uint64_t task) {
  board_slot& slot = board[task % slots];
  if (slot.task.exchange(task) != task) slot.begun.store(0);
  slot.begun.fetch_add(1);
}

}  // namespace

const std::string& board_name() {
  static const std::string name = "carom-soak-board-" + std::to_string(::getpid());
  return name;
}

void open_board() {
  const int fd = ::memfd_create(board_name().c_str(), MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, slots * sizeof(board_slot)) != 0)
    throw std::runtime_error("no memory for the board");
  void* at = ::mmap(nullptr, slots * sizeof(board_slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (at == MAP_FAILED) throw std::runtime_error("no memory for the board");
  board = static_cast<board_slot*>(at);
}

std::uint32_t times_begun(std::uint64_t task) {
  const board_slot& slot = board[task % slots];
  return slot.task.load() == task ? slot.begun.load() : 0;
}

int quick(std::uint64_t task, int x) {
  begin(task);
  return x ^ 1;
}

int slow(std::uint64_t task, int milliseconds) {
  begin(task);
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  return milliseconds;
}

int crashes(std::uint64_t task, int signal) {
  begin(task);
  if (signal == SIGABRT) std::abort();
  ::raise(signal);
  return 0;
}

std::size_t leaks(std::uint64_t task, std::size_t bytes) {
  begin(task);
  static std::vector<std::string> kept;
  kept.emplace_back(bytes, 'x');
  return kept.back().size();
}

void deaf(std::uint64_t task) {
  begin(task);
  ::signal(SIGTERM, SIG_IGN);
  for (;;) ::pause();
}

int has_children(std::uint64_t task) {
  begin(task);
  for (int i = 0; i < 2; ++i)
    if (::fork() == 0) {
      if (i == 1) ::setsid();
      ::signal(SIGTERM, SIG_IGN);
      for (;;) ::pause();
    }
  return 2;
}

std::string echoes(std::uint64_t task, std::string bytes) {
  begin(task);
  return bytes;
}

int throws(std::uint64_t task) {
  begin(task);
  throw std::out_of_range("soak " + std::to_string(task));
}

void waits_softly(std::uint64_t task) {
  begin(task);
  carom::this_task::sleep_for(std::chrono::hours(1));
}

int leaves(std::uint64_t task, int status) {
  begin(task);
  ::_exit(status);
}

int item(int x) {
  // A few crash: their own error, nobody else's value.
  if (x % 997 == 13) ::raise(SIGKILL);
  return x ^ 1;
}

}  // namespace bench::soak_tasks
