// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/byte_stream.hpp>
#include <carom/detail/shared_object.hpp>
#include <carom/detail/timeout.hpp>
#include <carom/export.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>

namespace carom::detail {

/// The first bytes of a heap's memory.
struct heap_header;

/// What heap_allocator does: each takes the heap's lock, unless this thread has it.
CAROM_API void* heap_allocate(heap_header& heap, std::size_t bytes, std::size_t alignment);
/// Never throws: what a damaged heap cannot take back is lost with it.
CAROM_API void heap_deallocate(heap_header& heap, void* place) noexcept;

[[noreturn]] CAROM_API void throw_name_taken(const std::string& name);

/// Tells one type of named object from another.
struct heap_type {
  std::uint64_t name;
  std::uint64_t size;

  friend bool operator==(const heap_type&, const heap_type&) = default;
};
template <class T>
heap_type heap_type_of() {
  return {hash_of_name(typeid(T).name()), sizeof(T)};
}

/// A heap as this process knows it: shared_heap without its templates.
class CAROM_API heap_memory {
 public:
  struct named_object {
    heap_type type;
    std::uint64_t place;
  };

  static std::shared_ptr<heap_memory> make(std::size_t size);
  static std::shared_ptr<heap_memory> unpack(byte_reader& in);
  void pack(byte_writer& out) const;
  ~heap_memory();
  heap_memory(const heap_memory&) = delete;
  heap_memory& operator=(const heap_memory&) = delete;

  heap_header* header() const noexcept;

  // Inside of a section.
  std::optional<named_object> find(const std::string& name) const;
  void* expect(const named_object& found, const std::string& name, const heap_type& type) const;
  void enter_name(const std::string& name, const void* object, const heap_type& type);
  void remove_name(const std::string& name);

  std::uint64_t place_of(const void* object, std::size_t size) const;
  void* at(std::uint64_t place, std::size_t size, std::size_t alignment) const;
  std::size_t size() const noexcept;
  std::size_t free_memory() const;
  bool check() const;
  bool damaged() const;

 private:
  struct body;
  explicit heap_memory(std::unique_ptr<body> made);

  std::unique_ptr<body> body_;
};

/// Holds the heap's lock, and says in the heap whether its owner changes anything: then its death
/// damages the heap.
class CAROM_API heap_section {
 public:
  enum class intent { read, write };

  /// Throws process_error if the heap is damaged, timeout_error.
  heap_section(const heap_memory& heap, intent what, timeout time = std::nullopt);
  /// Inside of an allocation, which no time limit interrupts.
  heap_section(heap_header& heap, intent what);
  heap_section(const heap_section&) = delete;
  heap_section& operator=(const heap_section&) = delete;
  ~heap_section();

 private:
  void begin(intent what);

  heap_header& heap_;
  bool nested_ = false;
  std::uint32_t before_ = 0;
};

}  // namespace carom::detail
