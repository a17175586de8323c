// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/byte_stream.hpp>
#include <carom/detail/timeout.hpp>
#include <carom/export.hpp>
#include <carom/sync.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <typeinfo>

namespace carom::detail {

/// What stands in shared memory, for a receiver to compare with what it expects.
struct shared_type {
  std::uint64_t name = 0;  ///< a hash
  std::uint32_t size = 0;
  std::uint32_t alignment = 0;
  std::uint64_t is_array = 0;

  friend bool operator==(const shared_type&, const shared_type&) = default;
};

CAROM_API std::uint64_t hash_of_name(const char* name) noexcept;
[[noreturn]] CAROM_API void throw_no_element(std::size_t index, std::size_t size);

template <class T>
shared_type shared_type_of(bool is_array) {
  static_assert(std::is_same_v<T, std::remove_cv_t<T>>,
                "carom: what is shared is neither const nor volatile; take const views of it");
  static_assert(
      std::is_trivially_copyable_v<T>,
      "carom: a value or array in shared memory has to be trivially copyable, since processes share "
      "its bytes; for strings and containers take a carom::shared_heap, or pass them as arguments");
  static_assert(!std::is_pointer_v<T>,
                "carom: a pointer in shared memory means nothing to another process; share what it "
                "points to, or an index");
  static_assert(alignof(T) <= 4096, "carom: memory is shared by pages of 4096 bytes");
  return {hash_of_name(typeid(T).name()), sizeof(T), alignof(T), is_array};
}

/// One piece of shared memory with its lock and its elements, as this process knows it.
class CAROM_API shared_object {
 public:
  /// Elements are all zeros. Throws std::invalid_argument if they are more than memory can have,
  /// std::system_error.
  static std::shared_ptr<shared_object> make(const shared_type& type, std::size_t count);
  /// Throws encoding_error for what holds another type; a null `type` is any.
  static std::shared_ptr<shared_object> unpack(byte_reader& in, const shared_type* type);
  void pack(byte_writer& out) const;
  /// Takes over another descriptor of the same memory, for the case that its own is lost.
  void renew(int owned_fd) noexcept;
  ~shared_object();
  shared_object(const shared_object&) = delete;
  shared_object& operator=(const shared_object&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t count() const noexcept { return count_; }

  /// The lock in the object's memory, which its owner may take again.
  acquire_result acquire(timeout time);
  void release();
  /// Whether the present owner got it from one that died.
  bool abandoned() const noexcept;

  /// Between `enter` and `leave` whoever holds the object's lock changes the object. A lock that
  /// guards many objects tells only the next owner of a death; here each object knows of itself.
  /// False if the caller is inside already.
  bool enter() noexcept;
  void leave() noexcept;

  /// Whether somebody died while it held the object's lock, whichever that is, since this was last
  /// set to false.
  bool damaged() const noexcept;
  /// The same, and whether whoever has the lock in the object's memory is dead.
  bool look_for_damage() const noexcept;
  void set_damaged(bool is) noexcept;

 private:
  struct memory;
  static std::shared_ptr<shared_object> wrap(std::unique_ptr<memory> made, std::size_t offset,
                                             std::size_t count);
  static std::shared_ptr<shared_object> adopt(int owned_fd);
  explicit shared_object(std::unique_ptr<memory> made, std::size_t offset, std::size_t count);

  std::unique_ptr<memory> memory_;
  std::byte* data_;
  std::size_t count_;
};

/// Whether new memory, all zeros, holds `value` already: large arrays then cost no page.
template <class T>
bool is_all_zeros(const T& value) noexcept {
  unsigned char bytes[sizeof(T)];
  std::memcpy(bytes, static_cast<const void*>(&value), sizeof(T));
  for (const unsigned char byte : bytes)
    if (byte != 0) return false;
  return true;
}

}  // namespace carom::detail
