// SPDX-License-Identifier: BSL-1.0
#include "runtime/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "runtime/memfd.hpp"

namespace carom::runtime {
namespace {

constexpr std::size_t retained_bytes = 128 * 1024 * 1024;
/// A segment costs a descriptor, of which a host may have 1024; queued tasks wait in the heap.
constexpr std::size_t most_segments = 128;
constexpr std::size_t history = 65536;

struct lent_segment {
  std::shared_ptr<segment> what;
  std::shared_ptr<warm_results> account;
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::uint64_t next_ticket() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

/// Few sizes, so that segments are used again; exact beyond 64 MiB, where waste would hurt.
std::size_t round_up(std::size_t bytes) {
  constexpr std::size_t smallest = 128 * 1024, exact_from = 64 * 1024 * 1024, page = 4096;
  const std::size_t whole = bytes + segment::header_size;
  if (whole < bytes) throw std::bad_alloc();
  if (whole <= smallest) return smallest;
  // A power of two would nearly double what is just above one: 8 MiB and a header is usual.
  if (whole <= exact_from) {
    const std::size_t step = std::bit_floor(whole) / 8;
    return (whole + step - 1) / step * step;
  }
  return (whole + page - 1) / page * page;
}

}  // namespace

CAROM_START_PATH mapping::mapping(int fd, std::size_t size, access rights)
    : size_(size), owner_(::getpid()) {
  const int protection = rights == access::read ? PROT_READ : PROT_READ | PROT_WRITE;
  void* at = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) fail("cannot map shared memory");
  data_ = static_cast<std::byte*>(at);
  ::madvise(at, size, MADV_DONTFORK);
}

CAROM_START_PATH mapping::mapping(mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      owner_(other.owner_) {}

CAROM_START_PATH mapping& mapping::operator=(mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(owner_, other.owner_);
  return *this;
}

CAROM_START_PATH mapping::~mapping() {
  // A forked copy has no such mapping: what lies there now is somebody else's.
  if (data_ && owner_ == ::getpid()) ::munmap(data_, size_);
}

unique_fd make_shared_memory(const char* name, std::size_t size) {
  unique_fd fd = make_memfd(name, size);
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    fail("cannot seal shared memory");
  return fd;
}

void seal_against_writing(const unique_fd& memory) {
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0)
    fail("cannot seal shared memory against writing");
}

CAROM_START_PATH bool is_sealed_memory(int fd, std::size_t size) noexcept {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return false;
  // Not fstat(3), which wants a page of the C library's constants in each new process.
  const off_t length = ::lseek(fd, 0, SEEK_END);
  return length >= 0 && static_cast<std::size_t>(length) >= size;
}

segment::segment(std::size_t size, bool workers_write)
    : ticket(next_ticket()),
      capacity(size - header_size),
      fd(make_shared_memory("carom-segment", size)),
      memory(fd.get(), size, mapping::access::read_write) {
  if (!workers_write) seal_against_writing(fd);
}

void segment::empty() noexcept { ::madvise(memory.data(), memory.size(), MADV_REMOVE); }

argument_segments& argument_segments::instance() {
  // Never destroyed: results may be held by objects that live until the very end.
  static auto* one = new argument_segments;
  return *one;
}

void argument_segments::forget_if_forked() {
  if (owner_ == ::getpid()) return;
  owner_ = ::getpid();
  free_.clear();
  free_bytes_ = 0;
  existing_ = 0;
}

std::unique_ptr<segment> argument_segments::obtain(std::size_t bytes, bool beyond_limit) {
  const std::size_t size = round_up(bytes);
  {
    std::lock_guard lock(mutex_);
    forget_if_forked();
    if (auto it = free_.find(size); it != free_.end()) {
      auto found = std::move(it->second);
      free_.erase(it);
      free_bytes_ -= size;
      return found;
    }
    if (existing_ >= most_segments && !beyond_limit) return nullptr;
    ++existing_;
  }
  try {
    return std::make_unique<segment>(size, false);
  } catch (const std::exception&) {
    std::lock_guard lock(mutex_);
    --existing_;
    return nullptr;
  }
}

void argument_segments::retire(std::unique_ptr<segment> back) {
  const std::size_t size = back->memory.size();
  std::lock_guard lock(mutex_);
  forget_if_forked();
  if (free_bytes_ + size <= retained_bytes && existing_ <= most_segments) {
    free_bytes_ += size;
    free_.emplace(size, std::move(back));
    return;
  }
  if (existing_ != 0) --existing_;
  dropped_.push_back(back->ticket);
  if (dropped_.size() > history) dropped_.pop_front();
  drops_.fetch_add(1, std::memory_order_relaxed);
}

void argument_segments::trim() noexcept {
  std::lock_guard lock(mutex_);
  forget_if_forked();
  existing_ -= std::min(existing_, free_.size());
  free_.clear();
  free_bytes_ = 0;
}

detail::segment_source::block argument_segments::acquire(std::size_t bytes) {
  // Not later, when it is to be sent: it would wait for ever, as for room.
  if (!memfd_may_have(round_up(bytes)))
    throw encoding_error("arguments of " + std::to_string(bytes) +
                         " bytes cannot be shared with a worker: this process's RLIMIT_FSIZE is "
                         "less, and holds for shared memory too");
  auto made = std::make_unique<argument_block>();
  made->shared = obtain(bytes, false);
  if (made->shared) {
    made->capacity = made->shared->capacity;
  } else {
    made->local.reset(new std::byte[bytes]);
    made->capacity = bytes;
  }
  std::byte* data = made->shared ? made->shared->data() : made->local.get();
  const std::size_t capacity = made->capacity;
  return {data, capacity, made.release()};
}

void argument_segments::release(void* handle) noexcept {
  const std::unique_ptr<argument_block> back(static_cast<argument_block*>(handle));
  if (back->shared) retire(std::move(back->shared));
}

const segment* argument_segments::share(const detail::blob& payload) noexcept {
  auto& held = *static_cast<argument_block*>(payload.segment());
  if (!held.shared) {
    // The heap copy stays: the blob points to it.
    try {
      held.shared = obtain(payload.size(), true);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    if (held.shared) std::memcpy(held.shared->data(), payload.data(), payload.size());
  }
  return held.shared.get();
}

std::vector<std::uint64_t> argument_segments::dropped_since(std::uint64_t& seen) {
  std::lock_guard lock(mutex_);
  const std::uint64_t all = drops_.load(std::memory_order_relaxed);
  const auto news = std::min<std::uint64_t>(all - seen, dropped_.size());
  seen = all;
  return {dropped_.end() - static_cast<std::ptrdiff_t>(news), dropped_.end()};
}

result_segments& result_segments::instance() {
  static result_segments one;
  return one;
}

void* result_segments::handle(std::shared_ptr<segment> lent,
                              std::shared_ptr<warm_results> account) {
  return new lent_segment{std::move(lent), std::move(account)};
}

detail::segment_source::block result_segments::acquire(std::size_t) { throw std::bad_alloc(); }

void result_segments::release(void* handle) noexcept {
  const std::unique_ptr<lent_segment> back(static_cast<lent_segment*>(handle));
  segment& one = *back->what;
  auto& warm = back->account->bytes;
  // A caller that held a thousand results gives back gigabytes, which no later result may need.
  one.warm = warm.load(std::memory_order_relaxed) + one.capacity <= warm_results::most_bytes;
  if (one.warm)
    warm.fetch_add(one.capacity, std::memory_order_relaxed);
  else
    one.empty();
  one.lent.store(false, std::memory_order_release);
  one.in_use().store(0, std::memory_order_release);
}

}  // namespace carom::runtime
