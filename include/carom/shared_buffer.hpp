// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/handle_form.hpp>
#include <carom/export.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <type_traits>

namespace carom {

/// Plain bytes in memory of their own, passed to tasks and processes without a copy: what travels
/// is the memory's descriptor, at a cost that does not depend on its size. The receiver maps it
/// when it first looks, and both see what either writes; nothing is locked, so agree on who writes
/// when (a task that was sent the buffer owns it until its result is there, for instance).
///
/// Pages exist once they are touched; if the machine has no memory left then, the process gets
/// SIGBUS. A handle: copies are the same memory, `copy` makes another. Any thread may call any
/// function.
class CAROM_API shared_buffer {
 public:
  /// None: no bytes.
  shared_buffer() noexcept;
  /// So many bytes, all zeros. Throws std::system_error if there is no memory or descriptor left.
  explicit shared_buffer(std::size_t size);
  /// A copy of `content`, the only one that is ever made.
  explicit shared_buffer(std::span<const std::byte> content);
  shared_buffer(const shared_buffer&) noexcept;
  shared_buffer(shared_buffer&&) noexcept;
  shared_buffer& operator=(const shared_buffer&) noexcept;
  shared_buffer& operator=(shared_buffer&&) noexcept;
  ~shared_buffer();

  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }

  /// The bytes, valid for as long as a handle of this process lives, aligned to a page. The first
  /// call maps them: throws std::system_error if there is no address space left.
  std::span<std::byte> bytes() { return {map(), size()}; }
  std::span<const std::byte> bytes() const { return {map(), size()}; }
  std::byte* data() { return map(); }
  const std::byte* data() const { return map(); }

  /// The bytes as elements. Throws std::invalid_argument if they are no whole number of them.
  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(map()), count_of<T>()};
  }
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(map()), count_of<T>()};
  }

 private:
  struct memory;
  friend struct detail::handle_access;
  void pack(detail::byte_writer& out) const;
  static shared_buffer unpack(detail::byte_reader& in);
  std::byte* map() const;

  template <class T>
  std::size_t count_of() const {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>,
                  "carom: a shared_buffer can be seen as trivially copyable elements only");
    if (size() % sizeof(T) != 0)
      throw std::invalid_argument("a shared_buffer is no whole number of such elements");
    return size() / sizeof(T);
  }

  std::shared_ptr<memory> memory_;
};

/// Another buffer of the same content.
CAROM_API shared_buffer copy(const shared_buffer& from);

template <>
struct detail::form<shared_buffer> : detail::handle_form<shared_buffer> {};

}  // namespace carom
