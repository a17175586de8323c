// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/packed_iarchive.hpp>
#include <carom/detail/packed_oarchive.hpp>

#include <cstddef>
#include <memory>
#include <span>

namespace carom::detail {

/// Rethrows the exception in flight as encoding_error, which holds it as its nested exception.
/// encoding_error itself and std::bad_alloc stay what they are.
[[noreturn]] CAROM_API void rethrow_as_encoding_error(const char* doing);

/// Values that need no Boost archive. Types without a default constructor get one unless they are
/// made whole, because their construction data may be anything.
template <class T>
inline constexpr bool needs_no_archive = form<T>::plain &&
                                         (std::default_initializable<T> || loads_whole<T>);

/// Packs items one after the other, each independent of the others: the bytes are those of `encode`
/// item by item. A Boost archive is made once, and only for types that need it.
class item_writer {
 public:
  explicit item_writer(blob& out) noexcept : out_{&out} {}

  /// Throws encoding_error; the blob is then as before.
  template <class T>
  void put(const T& item) {
    if constexpr (is_raw<T>) {
      std::memcpy(out_->extend(sizeof item), &item, sizeof item);
    } else {
      const std::size_t start = out_->size(), attached = out_->descriptor_count();
      try {
        put_here(item);
      } catch (...) {
        out_->resize_uninitialized(start);
        if (out_->descriptor_count() > attached) out_->descriptors().truncate(attached);
        rethrow_as_encoding_error("packing a value");
      }
    }
  }

  /// The same bytes as `put` of each; one copy for arithmetic.
  template <class T>
  void put_all(std::span<const T> items) {
    if constexpr (is_raw<T>)
      out_->append(items.data(), items.size_bytes());
    else
      for (const T& item : items) put(item);
  }

 private:
  template <class T>
  void put_here(const T& item) {
    static_assert(travels<T>());
    if constexpr (!is_serializable_v<T>) {
      // travels() has said why
    } else if constexpr (needs_no_archive<T>) {
      byte_writer plain{*out_};
      detail::pack(plain, item);
    } else {
      if (!archive_) archive_ = std::make_unique<packed_oarchive>(*out_);
      archive_->start_anew();
      detail::pack_new(*archive_, item);
      archive_->start_anew();
    }
  }

  blob* out_;
  std::unique_ptr<packed_oarchive> archive_;
};

/// Reads what item_writer, or `encode` item by item, wrote. Throws encoding_error on corrupt bytes,
/// after which the position is of no use.
class item_reader {
 public:
  explicit item_reader(std::span<const std::byte> bytes) noexcept : in_{bytes} {}

  template <class T>
  T next() {
    if constexpr (is_bulk<T>) {
      return in_.template get_raw<T>();
    } else {
      try {
        return next_here<T>();
      } catch (...) {
        rethrow_as_encoding_error("unpacking a value");
      }
    }
  }

  /// Decodes an item and drops it.
  template <class T>
  void skip() {
    if constexpr (is_bulk<T>)
      in_.take(sizeof(T));
    else
      (void)next<T>();
  }

  /// Fills `items` with the next ones; one copy for arithmetic.
  template <class T>
  void next_all(std::span<T> items) {
    if constexpr (is_bulk<T>)
      detail::unpack_array(in_, items.data(), items.size());
    else
      for (T& item : items) item = next<T>();
  }

  bool empty() const noexcept { return in_.left() == 0; }
  std::size_t left() const noexcept { return in_.left(); }
  std::size_t position() const noexcept { return in_.position(); }

 private:
  template <class T>
  T next_here() {
    static_assert(travels<T>());
    if constexpr (!is_serializable_v<T>) {
      // travels() has said why
    } else if constexpr (needs_no_archive<T>) {
      return detail::unpack_new<T>(in_);
    } else {
      if (!archive_) archive_ = std::make_unique<packed_iarchive>(std::span<const std::byte>{});
      archive_->start_anew(in_);
      T item = detail::unpack_new<T>(*archive_);
      in_ = *archive_;
      archive_->start_anew(in_);  // lets go of the item's shared objects
      return item;
    }
  }

  byte_reader in_;
  std::unique_ptr<packed_iarchive> archive_;
};

}  // namespace carom::detail
