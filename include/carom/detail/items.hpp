// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/packed_iarchive.hpp>
#include <carom/detail/packed_oarchive.hpp>

#include <carom/detail/start_path.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <tuple>

namespace carom::detail {

/// Rethrows the exception in flight as encoding_error, which holds it as its nested exception.
/// encoding_error itself and std::bad_alloc stay what they are.
[[noreturn]] CAROM_API void rethrow_as_encoding_error(const char* doing);

/// Values that need no Boost archive. Types without a default constructor get one unless they are
/// made whole, because their construction data may be anything.
template <class T>
inline constexpr bool needs_no_archive = form<T>::plain &&
                                         (std::default_initializable<T> || loads_whole<T>);

/// Unpacks one message from `in` and leaves what stands behind it.
template <class... Ts, class Reader>
CAROM_START_PATH std::tuple<Ts...> unpack_tuple(Reader& in) {
  if constexpr ((loads_into_default<Ts> && ...)) {
    std::tuple<Ts...> values{};
    std::apply([&in](auto&... value) { (detail::unpack(in, value), ...); }, values);
    return values;
  } else {
    return std::tuple<Ts...>{detail::unpack_new<Ts>(in)...};
  }
}

/// Whether items that are messages of these types stand behind their lengths where several travel
/// together: what is in one then leaves the others alone, and it can be passed over unread. Those
/// whose bytes are copied cannot fail and are all of one length.
template <class... Ts>
inline constexpr bool stands_in_frame = !(is_raw<Ts> && ...);

/// Appends what `pack` appends to `out`, behind its length; nothing if it throws.
template <class Pack>
void put_frame(blob& out, Pack pack) {
  const std::size_t start = out.size();
  std::uint64_t length = 0;
  out.extend(sizeof length);
  try {
    pack();
  } catch (...) {
    out.resize_uninitialized(start);
    throw;
  }
  length = out.size() - start - sizeof length;
  std::memcpy(out.data() + start, &length, sizeof length);
}

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

  /// The bytes of what put_frame has written; to be read by `message`, or left.
  std::span<const std::byte> next_frame() {
    const std::size_t length = in_.get_count();
    return {in_.take(length), length};
  }

  /// As `decode`, with the archive that serves all items.
  template <class... Ts>
  std::tuple<Ts...> message(std::span<const std::byte> bytes) {
    byte_reader in{bytes};
    try {
      if constexpr ((needs_no_archive<Ts> && ...)) {
        auto values = detail::unpack_tuple<Ts...>(in);
        in.expect_end();
        return values;
      } else {
        if (!archive_) archive_ = std::make_unique<packed_iarchive>(std::span<const std::byte>{});
        archive_->start_anew(in);
        auto values = detail::unpack_tuple<Ts...>(*archive_);
        archive_->expect_end();
        archive_->start_anew(in);  // lets go of the item's shared objects
        return values;
      }
    } catch (...) {
      archive_.reset();
      rethrow_as_encoding_error("unpacking a value");
    }
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
