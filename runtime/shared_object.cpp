// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <atomic>
#include <carom/detail/shared_object.hpp>
#include <carom/errors.hpp>
#include <new>
#include <stdexcept>
#include <string>

#include "runtime/live_states.hpp"
#include "runtime/robust_mutex.hpp"
#include "runtime/shared_mapping.hpp"

namespace carom::detail {

using namespace runtime;

namespace {

/// What the lock's owner, or the next one, is to know.
enum class owner_history : std::uint32_t {
  none,
  taken_over,   // the owner has it from one that died
  left_behind,  // the last owner let go of it without a release
};

/// The first bytes of the memory. Type and count are read when a handle is made, and then never
/// again: what another process writes over them later changes nothing.
struct object_header {
  static constexpr std::uint64_t expected_magic = 0x31746a626f6d7263;  // "crmobjt1"

  std::uint64_t magic = expected_magic;
  shared_type type;
  std::uint64_t count = 0;

  alignas(64) robust_mutex mutex;
  std::uint32_t depth = 0;  // how often its owner has taken it: the owner's
  std::atomic<owner_history> past{owner_history::none};
  std::atomic<std::uint32_t> damaged{0};
  std::atomic<std::uint32_t> in_use{0};  // somebody is between `enter` and `leave`, or died there

  /// By one who has the mutex and gives it back, for the next owner to hear.
  void leave_behind() noexcept {
    damaged.store(1, std::memory_order_relaxed);
    past.store(owner_history::left_behind, std::memory_order_relaxed);
  }
};

constexpr std::size_t least_offset = 256;
static_assert(sizeof(object_header) <= least_offset);
constexpr std::size_t most_bytes = std::size_t{1} << 46;

std::size_t offset_of(const shared_type& type) {
  return std::max<std::size_t>(least_offset, type.alignment);
}

/// As pthread_self, without the call.
std::uintptr_t this_thread() noexcept {
  return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
}

[[noreturn]] void throw_not_held(bool somebody_has_it) {
  throw process_error(somebody_has_it
                          ? "the lock of a shared object is held by another thread or process, "
                            "which alone can release it"
                          : "the lock of a shared object is not held; acquire it before release");
}

}  // namespace

std::uint64_t hash_of_name(const char* name) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (; *name; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001b3;
  return hash;
}

void throw_no_element(std::size_t index, std::size_t size) {
  throw std::out_of_range("a shared array has no element " + std::to_string(index) + ": it has " +
                          std::to_string(size));
}

struct shared_object::memory {
  memory(shared_mapping from, const shared_type& of) : mapped(std::move(from)), type(of) {}

  object_header& header() const noexcept {
    return *reinterpret_cast<object_header*>(mapped.data());
  }

  shared_mapping mapped;
  const shared_type type;
  /// How many of this process's threads hold the lock by `acquire`.
  std::atomic<int> held{0};
  /// The thread of this process that is between `enter` and `leave`. A forked copy's main thread is
  /// known by the number of the one that forked, but is not inside.
  std::atomic<std::uintptr_t> inside{0};
  std::atomic<unsigned> inside_of_fork{0};
};

shared_object::shared_object(std::unique_ptr<memory> made, std::size_t offset, std::size_t count)
    : memory_(std::move(made)), data_(memory_->mapped.data() + offset), count_(count) {}

shared_object::~shared_object() {
  if (memory_->held.load(std::memory_order_relaxed) == 0) return;
  // The last handle is dropped while the lock is held: as if its owner had died. A mutex that a
  // thread holds must stay mapped, or that thread's next lock would write into nothing.
  try {
    object_header& header = memory_->header();
    const lock_outcome mine = header.mutex.try_lock();
    if (mine == lock_outcome::timed_out) {
      memory_->mapped.leak();
      return;
    }
    // Else nobody holds it any more.
    if (mine != lock_outcome::acquired) header.leave_behind();
    header.mutex.unlock();
  } catch (const process_error&) {
    memory_->mapped.leak();
  }
}

std::shared_ptr<shared_object> shared_object::make(const shared_type& type, std::size_t count) {
  const std::size_t offset = offset_of(type);
  if (count > (most_bytes - offset) / std::max<std::size_t>(1, type.size))
    throw std::invalid_argument("an array of " + std::to_string(count) + " elements of " +
                                std::to_string(type.size) + " bytes cannot be shared: too large");
  auto mapped = shared_mapping::make("shared", offset + count * type.size);
  auto* const header = ::new (mapped.data()) object_header;
  header->type = type;
  header->count = count;
  auto made = wrap(std::make_unique<memory>(std::move(mapped), type), offset, count);
  live_states<shared_object>::instance().add(made, made->memory_->mapped.fd());
  return made;
}

std::shared_ptr<shared_object> shared_object::wrap(std::unique_ptr<memory> made, std::size_t offset,
                                                   std::size_t count) {
  return std::shared_ptr<shared_object>(new shared_object(std::move(made), offset, count));
}

std::shared_ptr<shared_object> shared_object::adopt(int owned_fd) {
  auto mapped = shared_mapping::adopt(unique_fd(owned_fd), least_offset);
  const auto& header = *reinterpret_cast<const object_header*>(mapped.data());
  const shared_type type = header.type;
  const std::uint64_t count = header.count;
  if (header.magic != object_header::expected_magic)
    throw encoding_error("a descriptor that should be a shared value or array is none");
  const std::size_t offset = offset_of(type), size = mapped.size();
  if (type.alignment > 4096 || offset > size ||
      count > (size - offset) / std::max<std::size_t>(1, type.size))
    throw encoding_error("a shared value or array is corrupt: it has more elements than memory");
  return wrap(std::make_unique<memory>(std::move(mapped), type), offset, count);
}

std::shared_ptr<shared_object> shared_object::unpack(byte_reader& in, const shared_type* wanted) {
  auto found = live_states<shared_object>::instance().find_or_make(
      unique_fd(in.get_descriptor()), [](unique_fd fd) { return adopt(fd.release()); });
  if (wanted && found->memory_->type != *wanted)
    throw encoding_error(
        "a shared value or array holds another type than the one that is expected");
  return found;
}

void shared_object::renew(int owned_fd) noexcept { memory_->mapped.renew(unique_fd(owned_fd)); }

void shared_object::pack(byte_writer& out) const { out.put_descriptor(memory_->mapped.fd()); }

acquire_result shared_object::acquire(timeout time) {
  object_header& header = memory_->header();
  lock_outcome outcome = header.mutex.try_lock();
  if (outcome == lock_outcome::timed_out) {
    using clock = robust_mutex::clock;
    std::optional<clock::time_point> until;
    if (const auto now = clock::now();
        time.limit() && *time.limit() <= clock::time_point::max() - now)
      until = now + *time.limit();
    outcome = header.mutex.lock_until(until);
  }
  if (outcome == lock_outcome::timed_out) return acquire_result::outcome::timed_out;
  if (outcome == lock_outcome::deadlock) {
    ++header.depth;
    return acquire_result::outcome::acquired;
  }
  memory_->held.fetch_add(1, std::memory_order_relaxed);
  header.depth = 1;
  const bool dead = outcome == lock_outcome::abandoned ||
                    header.past.load(std::memory_order_relaxed) == owner_history::left_behind;
  header.past.store(dead ? owner_history::taken_over : owner_history::none,
                    std::memory_order_relaxed);
  if (dead) header.damaged.store(1, std::memory_order_relaxed);
  return dead ? acquire_result::outcome::abandoned : acquire_result::outcome::acquired;
}

void shared_object::release() {
  object_header& header = memory_->header();
  // Who has the lock finds it locked by itself.
  switch (header.mutex.try_lock()) {
    case lock_outcome::deadlock: break;
    case lock_outcome::timed_out: throw_not_held(true);
    case lock_outcome::abandoned:
      header.leave_behind();  // that was not ours to hear
      [[fallthrough]];
    case lock_outcome::acquired: header.mutex.unlock(); throw_not_held(false);
  }
  if (header.depth > 1) {
    --header.depth;
    return;
  }
  header.depth = 0;
  header.past.store(owner_history::none, std::memory_order_relaxed);
  memory_->held.fetch_sub(1, std::memory_order_relaxed);
  header.mutex.unlock();
}

bool shared_object::abandoned() const noexcept {
  return memory_->header().past.load(std::memory_order_relaxed) == owner_history::taken_over;
}

bool shared_object::enter() noexcept {
  object_header& header = memory_->header();
  const unsigned fork = live_states<shared_object>::instance().fork();
  if (header.in_use.load(std::memory_order_acquire) != 0) {
    if (memory_->inside.load(std::memory_order_relaxed) == this_thread() &&
        memory_->inside_of_fork.load(std::memory_order_relaxed) == fork)
      return false;
    header.damaged.store(1, std::memory_order_relaxed);
  }
  memory_->inside.store(this_thread(), std::memory_order_relaxed);
  memory_->inside_of_fork.store(fork, std::memory_order_relaxed);
  header.in_use.store(1, std::memory_order_seq_cst);
  return true;
}

void shared_object::leave() noexcept {
  memory_->inside.store(0, std::memory_order_relaxed);
  memory_->header().in_use.store(0, std::memory_order_release);
}

bool shared_object::damaged() const noexcept {
  return memory_->header().damaged.load(std::memory_order_relaxed) != 0;
}

bool shared_object::look_for_damage() const noexcept {
  return damaged() || memory_->header().mutex.owner_is_dead();
}

void shared_object::set_damaged(bool is) noexcept {
  memory_->header().damaged.store(is, std::memory_order_relaxed);
}

}  // namespace carom::detail
