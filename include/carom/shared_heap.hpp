// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/handle_form.hpp>
#include <carom/detail/heap_memory.hpp>
#include <carom/export.hpp>

#include <boost/container/detail/dispatch_uses_allocator.hpp>
#include <boost/container/new_allocator.hpp>
#include <boost/interprocess/containers/list.hpp>
#include <boost/interprocess/containers/map.hpp>
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/containers/vector.hpp>
#include <boost/interprocess/offset_ptr.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace carom {

/// A pointer that may stand in a heap: it is valid wherever the heap is mapped.
template <class T>
using heap_ptr = boost::interprocess::offset_ptr<T>;

/// Allocates from a shared_heap. Containers made with it may stand in that heap, and hand it on to
/// their elements by themselves. Throws std::bad_alloc when the heap is full, process_error when it
/// is damaged.
template <class T>
class heap_allocator {
 public:
  using value_type = T;
  using pointer = heap_ptr<T>;
  using const_pointer = heap_ptr<const T>;
  using void_pointer = heap_ptr<void>;
  using const_void_pointer = heap_ptr<const void>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  template <class U>
  struct rebind {
    using other = heap_allocator<U>;
  };

  explicit heap_allocator(detail::heap_header* heap) noexcept : heap_(heap) {}
  template <class U>
  heap_allocator(const heap_allocator<U>& other) noexcept : heap_(other.heap()) {}

  pointer allocate(size_type count) {
    if (count > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_alloc();
    return pointer(static_cast<T*>(detail::heap_allocate(*heap_, count * sizeof(T), alignof(T))));
  }
  void deallocate(pointer place, size_type) noexcept {
    detail::heap_deallocate(*heap_, boost::interprocess::ipcdetail::to_raw_pointer(place));
  }
  /// Gives elements that take an allocator this one, pairs of them too.
  template <class U, class... Args>
  void construct(U* place, Args&&... args) {
    boost::container::new_allocator<U> in_place;
    boost::container::dtl::dispatch_uses_allocator(in_place, *this, place,
                                                   std::forward<Args>(args)...);
  }
  heap_allocator select_on_container_copy_construction() const noexcept { return *this; }

  detail::heap_header* heap() const noexcept { return heap_.get(); }
  template <class U>
  friend bool operator==(const heap_allocator& a, const heap_allocator<U>& b) noexcept {
    return a.heap() == b.heap();
  }

 private:
  heap_ptr<detail::heap_header> heap_;
};

using heap_string =
    boost::interprocess::basic_string<char, std::char_traits<char>, heap_allocator<char>>;
template <class T>
using heap_vector = boost::interprocess::vector<T, heap_allocator<T>>;
template <class T>
using heap_list = boost::interprocess::list<T, heap_allocator<T>>;
template <class K, class V, class Compare = std::less<>>
using heap_map = boost::interprocess::map<K, V, Compare, heap_allocator<std::pair<const K, V>>>;

/// A heap in memory that processes share, for containers and strings (billiard: `heap.Arena`,
/// `BufferWrapper`). It travels, as argument, result or in messages, by one descriptor, and each
/// process maps it where it likes: what stands in it uses heap_ptr, never a raw pointer, which is
/// good in one process only and as long as that has a handle. Its size is fixed, pages exist once
/// they are touched.
///
/// One lock guards the heap. `with` holds it while objects in the heap are changed, `read` while
/// they are looked at; allocating by itself takes it, too. A process that dies while it changes the
/// heap (inside of `with`, of `make` or `destroy`, or of an allocation) leaves it damaged:
/// everybody who comes later gets process_error, as what stands in it cannot be trusted any more;
/// make a new heap. One that dies while it reads, or at any other time, damages nothing. Nobody
/// ever hangs.
///
/// All functions are thread-safe. In a task, waiting for the lock is a checkpoint.
class shared_heap {
 public:
  /// Of `size` bytes, a little of which the heap needs for itself. Throws std::invalid_argument
  /// beyond reason, std::system_error where there is no memory or descriptor left.
  explicit shared_heap(std::size_t size) : memory_(detail::heap_memory::make(size)) {}
  // There is no move: a handle always names something.
  shared_heap(const shared_heap&) noexcept = default;
  shared_heap& operator=(const shared_heap&) noexcept = default;

  /// For containers in this heap: `heap_vector<int> v(heap.allocator<int>())`.
  template <class T>
  heap_allocator<T> allocator() const noexcept {
    return heap_allocator<T>(memory_->header());
  }

  /// Calls `f()`, or `f(heap)`, while this thread alone may change what stands in the heap; waits
  /// for that at most `time`, then throws timeout_error. Gives what `f` gives; what it throws
  /// leaves the heap usable. May be nested.
  template <class F>
  decltype(auto) with(F&& f, detail::timeout time = std::nullopt) {
    const auto kept = memory_;  // `f` may give this heap away
    const detail::heap_section section(*kept, detail::heap_section::intent::write, time);
    return call(std::forward<F>(f));
  }
  /// The same for an `f` that changes nothing.
  template <class F>
  decltype(auto) read(F&& f, detail::timeout time = std::nullopt) {
    const auto kept = memory_;  // `f` may give this heap away
    const detail::heap_section section(*kept, detail::heap_section::intent::read, time);
    return call(std::forward<F>(f));
  }

  /// Makes a T under a name by which every process finds it. A T that takes an allocator as its
  /// last argument gets the heap's. Throws std::invalid_argument for a name that is empty, longer
  /// than 4,096 bytes or holds a zero, as all below; process_error if it is taken, std::bad_alloc
  /// if the heap is full.
  template <class T, class... Args>
  T& make(const std::string& name, Args&&... args) {
    const detail::heap_section section(*memory_, detail::heap_section::intent::write);
    if (memory_->find(name)) detail::throw_name_taken(name);
    T* const made = create<T>(std::forward<Args>(args)...);
    try {
      memory_->enter_name(name, made, detail::heap_type_of<T>());
    } catch (...) {
      destroy(made);
      throw;
    }
    return *made;
  }
  /// The T of that name, or null. Throws process_error if that is something else than a T.
  template <class T>
  T* find(const std::string& name) const {
    const detail::heap_section section(*memory_, detail::heap_section::intent::read);
    const auto found = memory_->find(name);
    return found ? static_cast<T*>(memory_->expect(*found, name, detail::heap_type_of<T>()))
                 : nullptr;
  }
  /// The one that is there, or a new one.
  template <class T, class... Args>
  T& find_or_make(const std::string& name, Args&&... args) {
    const detail::heap_section section(*memory_, detail::heap_section::intent::write);
    if (T* const there = find<T>(name)) return *there;
    return make<T>(name, std::forward<Args>(args)...);
  }
  /// Destroys the T of that name; false if there is none.
  template <class T>
  bool destroy(const std::string& name) {
    const detail::heap_section section(*memory_, detail::heap_section::intent::write);
    T* const there = find<T>(name);
    if (!there) return false;
    memory_->remove_name(name);
    destroy(there);
    return true;
  }

  /// A T without a name, for who keeps a heap_ptr to it in the heap, or sends its `place_of`.
  template <class T, class... Args>
  T* create(Args&&... args) {
    const detail::heap_section section(*memory_, detail::heap_section::intent::write);
    auto from = allocator<T>();
    auto const place = from.allocate(1);
    T* const made = boost::interprocess::ipcdetail::to_raw_pointer(place);
    try {
      from.construct(made, std::forward<Args>(args)...);
    } catch (...) {
      from.deallocate(place, 1);
      throw;
    }
    return made;
  }
  template <class T>
  void destroy(T* made) {
    if (!made) return;
    const detail::heap_section section(*memory_, detail::heap_section::intent::write);
    std::destroy_at(made);
    allocator<T>().deallocate(heap_ptr<T>(made), 1);
  }

  /// Where in the heap an object stands: the same number in every process. Throws
  /// std::invalid_argument for what stands elsewhere.
  std::uint64_t place_of(const void* object) const { return memory_->place_of(object, 1); }
  /// The object at a place. Throws std::out_of_range where there is no room for a T.
  template <class T>
  T& at(std::uint64_t place) const {
    return *static_cast<T*>(memory_->at(place, sizeof(T), alignof(T)));
  }

  /// Bytes in all, and those that nobody has allocated: in pieces, as it may be.
  std::size_t size() const noexcept { return memory_->size(); }
  std::size_t free_memory() const { return memory_->free_memory(); }
  /// Walks all lists of the heap; whether they are sound. For tests and diagnosis: it takes long.
  bool check() const { return memory_->check(); }
  /// Whether somebody died while it changed the heap.
  bool damaged() const { return memory_->damaged(); }

 private:
  friend struct detail::handle_access;
  explicit shared_heap(std::shared_ptr<detail::heap_memory> memory) : memory_(std::move(memory)) {}
  void pack(detail::byte_writer& out) const { memory_->pack(out); }
  static shared_heap unpack(detail::byte_reader& in) {
    return shared_heap(detail::heap_memory::unpack(in));
  }
  template <class F>
  decltype(auto) call(F&& f) {
    if constexpr (std::is_invocable_v<F, shared_heap&>)
      return std::invoke(std::forward<F>(f), *this);
    else
      return std::invoke(std::forward<F>(f));
  }

  std::shared_ptr<detail::heap_memory> memory_;
};

template <>
struct detail::form<shared_heap> : detail::handle_form<shared_heap> {};

}  // namespace carom
