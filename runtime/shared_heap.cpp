// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <atomic>
#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>
#include <carom/detail/heap_memory.hpp>
#include <carom/errors.hpp>
#include <new>
#include <stdexcept>
#include <string>

#include "runtime/robust_mutex.hpp"
#include "runtime/shared_mapping.hpp"

namespace carom::detail {

using namespace runtime;

/// The lock is Interprocess's no more than the counters are: its mutexes are not robust. Whoever
/// changes the heap says so in `writing` under the lock. Who then finds the lock abandoned by an
/// owner that was writing must not walk a list that may be half linked.
struct heap_header {
  static constexpr std::uint64_t expected_magic = 0x3170616568726d63;  // "cmrheap1"

  std::uint64_t magic = expected_magic;
  std::uint64_t size = 0;  // of what the heap manages
  alignas(64) robust_mutex mutex;
  std::atomic<std::uint32_t> writing{0};
  std::atomic<std::uint32_t> damaged{0};
};

namespace {

namespace ipc = boost::interprocess;

constexpr std::size_t longest_name = 4096;
using buffer = ipc::basic_managed_external_buffer<
    char, ipc::rbtree_best_fit<ipc::null_mutex_family, ipc::offset_ptr<void>>, ipc::iset_index>;

constexpr std::size_t header_size = 4096;
constexpr std::size_t least_size = 16 * 1024;
constexpr std::size_t most_size = std::size_t{1} << 46;
/// What Interprocess aligns everything to.
constexpr std::size_t natural_alignment = 16;
static_assert(sizeof(heap_header) <= header_size);

std::byte* start_of(heap_header& heap) noexcept {
  return reinterpret_cast<std::byte*>(&heap) + header_size;
}

/// Stands at the start of what it manages: an address that nobody can have written over.
buffer::segment_manager& manager_of(heap_header& heap) noexcept {
  return *reinterpret_cast<buffer::segment_manager*>(start_of(heap));
}

[[noreturn]] void throw_damaged() {
  throw process_error(
      "a shared heap is damaged: a process died while it changed it, so that nothing in it can be "
      "trusted; make a new one");
}

bool is_inside(heap_header& heap, std::size_t size, const void* place, std::size_t bytes) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(place);
  const auto begin = reinterpret_cast<std::uintptr_t>(start_of(heap));
  return at >= begin && at - begin <= size && bytes <= size - (at - begin);
}

}  // namespace

struct heap_memory::body {
  explicit body(shared_mapping from) : memory(std::move(from)) {}

  heap_header& header() const noexcept { return *reinterpret_cast<heap_header*>(memory.data()); }
  std::size_t size() const noexcept { return memory.size() - header_size; }

  shared_mapping memory;
};

void* heap_allocate(heap_header& heap, std::size_t bytes, std::size_t alignment) {
  const heap_section section(heap, heap_section::intent::write);
  auto& manager = manager_of(heap);
  // What it adds for itself must not wrap around.
  if (bytes > manager.get_size() || alignment > manager.get_size()) throw std::bad_alloc();
  void* const place = alignment <= natural_alignment
                          ? manager.allocate(bytes, std::nothrow)
                          : manager.allocate_aligned(bytes, alignment, std::nothrow);
  if (!place) throw std::bad_alloc();
  return place;
}

void heap_deallocate(heap_header& heap, void* place) noexcept {
  try {
    const heap_section section(heap, heap_section::intent::write);
    manager_of(heap).deallocate(place);
  } catch (const std::exception&) {
    // Damaged: it is lost with everything else.
  }
}

void throw_name_taken(const std::string& name) {
  throw process_error("a shared heap has an object `" + name +
                      "` already; find it, or destroy it first");
}

heap_section::heap_section(heap_header& heap, intent what) : heap_(heap) {
  const lock_outcome outcome = heap.mutex.lock();
  nested_ = outcome == lock_outcome::deadlock;
  if (outcome == lock_outcome::abandoned && heap.writing.load(std::memory_order_relaxed) != 0)
    heap.damaged.store(1, std::memory_order_relaxed);
  begin(what);
}

heap_section::heap_section(const heap_memory& memory, intent what, timeout time)
    : heap_(*memory.header()) {
  lock_outcome outcome = heap_.mutex.try_lock();
  if (outcome == lock_outcome::timed_out) {
    using clock = robust_mutex::clock;
    std::optional<clock::time_point> until;
    if (const auto now = clock::now();
        time.limit() && *time.limit() <= clock::time_point::max() - now)
      until = now + *time.limit();
    outcome = heap_.mutex.lock_until(until);
  }
  if (outcome == lock_outcome::timed_out)
    throw timeout_error("a shared heap is in use by another thread or process; wait longer");
  nested_ = outcome == lock_outcome::deadlock;
  if (outcome == lock_outcome::abandoned && heap_.writing.load(std::memory_order_relaxed) != 0)
    heap_.damaged.store(1, std::memory_order_relaxed);
  begin(what);
}

void heap_section::begin(intent what) {
  if (heap_.damaged.load(std::memory_order_relaxed) != 0) {
    if (!nested_) heap_.mutex.unlock();
    throw_damaged();
  }
  before_ = nested_ ? heap_.writing.load(std::memory_order_relaxed) : 0;
  heap_.writing.store(before_ || what == intent::write, std::memory_order_relaxed);
  // The compiler moves nothing of what follows before it; what the processor has done it has done
  // in order, as far as others see it after this one's death.
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

heap_section::~heap_section() {
  heap_.writing.store(before_, std::memory_order_release);
  if (!nested_) heap_.mutex.unlock();
}

heap_memory::heap_memory(std::unique_ptr<body> made) : body_(std::move(made)) {}
heap_memory::~heap_memory() = default;

std::shared_ptr<heap_memory> heap_memory::make(std::size_t size) {
  if (size == 0 || size > most_size)
    throw std::invalid_argument("a shared heap has between 1 byte and 64 TiB");
  const std::size_t whole = (std::max(size, least_size) + 4095) / 4096 * 4096;
  auto made = std::make_unique<body>(shared_mapping::make("heap", header_size + whole));
  auto* const header = ::new (made->memory.data()) heap_header;
  header->size = whole;
  const buffer managed(ipc::create_only, start_of(*header), whole);
  if (static_cast<void*>(managed.get_segment_manager()) != start_of(*header))
    throw process_error("a shared heap is not laid out as this version of Boost should do it");
  return std::shared_ptr<heap_memory>(new heap_memory(std::move(made)));
}

std::shared_ptr<heap_memory> heap_memory::unpack(byte_reader& in) {
  auto made = std::make_unique<body>(
      shared_mapping::adopt(unique_fd(in.get_descriptor()), header_size + least_size));
  if (made->header().magic != heap_header::expected_magic || made->header().size != made->size())
    throw encoding_error("a descriptor that should be a shared heap is none");
  return std::shared_ptr<heap_memory>(new heap_memory(std::move(made)));
}

void heap_memory::pack(byte_writer& out) const { out.put_descriptor(body_->memory.fd()); }

heap_header* heap_memory::header() const noexcept { return &body_->header(); }

std::optional<heap_memory::named_object> heap_memory::find(const std::string& name) const {
  // Interprocess keeps 16 bits of a name's length, takes it to the first zero, and means something
  // else by an empty one.
  if (name.empty() || name.size() > longest_name || name.find('\0') != std::string::npos)
    throw std::invalid_argument("a name in a shared heap has 1 to " + std::to_string(longest_name) +
                                " bytes and no zero among them; this one has " +
                                std::to_string(name.size()) + " bytes");
  const auto found = manager_of(body_->header()).find<named_object>(name.c_str());
  if (!found.first) return std::nullopt;
  return *found.first;
}

void* heap_memory::expect(const named_object& found, const std::string& name,
                          const heap_type& type) const {
  if (found.type != type)
    throw process_error("the object `" + name +
                        "` of a shared heap is of another type than the one that is looked for");
  return at(found.place, type.size, 1);
}

void heap_memory::enter_name(const std::string& name, const void* object, const heap_type& type) {
  const named_object entry{type, place_of(object, type.size)};
  auto& manager = manager_of(body_->header());
  if (!manager.construct<named_object>(name.c_str(), std::nothrow)(entry)) throw std::bad_alloc();
}

void heap_memory::remove_name(const std::string& name) {
  manager_of(body_->header()).destroy<named_object>(name.c_str());
}

std::uint64_t heap_memory::place_of(const void* object, std::size_t size) const {
  heap_header& heap = body_->header();
  if (!is_inside(heap, body_->size(), object, size))
    throw std::invalid_argument("an object does not stand in this shared heap");
  return static_cast<std::uint64_t>(static_cast<const std::byte*>(object) - start_of(heap));
}

void* heap_memory::at(std::uint64_t place, std::size_t size, std::size_t alignment) const {
  const std::size_t all = body_->size();
  if (place > all || size > all - place || place % alignment != 0)
    throw std::out_of_range("a shared heap has no object at this place");
  return start_of(body_->header()) + place;
}

std::size_t heap_memory::size() const noexcept { return body_->size(); }

std::size_t heap_memory::free_memory() const {
  const heap_section section(*this, heap_section::intent::read);
  return manager_of(body_->header()).get_free_memory();
}

bool heap_memory::check() const {
  const heap_section section(*this, heap_section::intent::read);
  return manager_of(body_->header()).check_sanity();
}

bool heap_memory::damaged() const {
  try {
    const heap_section section(*this, heap_section::intent::read);
    return false;
  } catch (const process_error&) {
    return body_->header().damaged.load(std::memory_order_relaxed) != 0;
  }
}

}  // namespace carom::detail
