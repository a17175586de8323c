// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/mman.h>

#include <new>

namespace carom::runtime {

/// Tells a process from its forked copies for the price of a load: a page that the kernel wipes in
/// the child (madvise(2), MADV_WIPEONFORK). `getpid` is a system call.
class fork_mark {
 public:
  fork_mark() {
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    ::madvise(at, size, MADV_WIPEONFORK);
    page_ = static_cast<volatile char*>(at);
    *page_ = 1;
  }
  fork_mark(const fork_mark&) = delete;
  fork_mark& operator=(const fork_mark&) = delete;
  ~fork_mark() { ::munmap(const_cast<char*>(page_), size); }

  /// Whether this is the process that made the mark.
  bool original() const noexcept { return *page_ != 0; }

 private:
  static constexpr std::size_t size = 4096;
  volatile char* page_;
};

}  // namespace carom::runtime
