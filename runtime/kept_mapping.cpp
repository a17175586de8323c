// SPDX-License-Identifier: BSL-1.0
#include "runtime/kept_mapping.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <carom/detail/start_path.hpp>
#include <cerrno>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

#include "runtime/worker_identity.hpp"

namespace carom::runtime {
namespace {

struct kept {
  kept_mapping::name what;
  std::byte* at;

  ~kept() {
    if (at) ::munmap(at, what.size);
  }
};

/// A task may have threads: whoever takes it out of here owns it.
std::atomic<kept*> slot{nullptr};

}  // namespace

bool kept_mapping::wanted() noexcept {
  return identity().page && running().task_id.load(std::memory_order_relaxed) != 0 &&
         ::getpid() == identity().pid;
}

kept_mapping::name kept_mapping::name_of(int fd, std::size_t size) {
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    throw std::system_error(errno, std::generic_category(), "shared memory");
  return {status.st_dev, status.st_ino, size};
}

void kept_mapping::keep(const name& what, std::byte* at) noexcept {
  auto* const made = new (std::nothrow) kept{what, at};
  if (!made) ::munmap(at, what.size);
  delete slot.exchange(made, std::memory_order_acq_rel);
}

std::byte* kept_mapping::take(const name& what) noexcept {
  const std::unique_ptr<kept> found(slot.exchange(nullptr, std::memory_order_acq_rel));
  if (!found || found->what != what) return nullptr;
  return std::exchange(found->at, nullptr);
}

CAROM_START_PATH void kept_mapping::drop() noexcept {
  if (slot.load(std::memory_order_relaxed))
    delete slot.exchange(nullptr, std::memory_order_acq_rel);
}

}  // namespace carom::runtime
