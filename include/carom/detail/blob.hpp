// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/descriptors.hpp>
#include <carom/export.hpp>

#include <cstddef>
#include <cstring>
#include <span>

namespace carom::detail {

/// Where a blob gets room for large payloads: memory that another process can map.
/// A blob calls it from the thread that writes; the source must outlive its blobs.
class CAROM_API segment_source {
 public:
  struct block {
    std::byte* data;
    std::size_t capacity;  ///< at least what was asked for
    void* handle;          ///< names the segment; never null
  };

  /// Throws std::bad_alloc or encoding_error.
  virtual block acquire(std::size_t bytes) = 0;
  virtual void release(void* handle) noexcept = 0;

 protected:
  ~segment_source() = default;
};

/// Bytes under construction: owning, move-only. They live inline up to `inline_capacity`, then on
/// the heap, and past `segment_threshold` in a segment of the source, where there is one.
class CAROM_API blob {
 public:
  static constexpr std::size_t inline_capacity = 64;
  static constexpr std::size_t segment_threshold = 64 * 1024;

  explicit blob(segment_source* source = nullptr) noexcept : source_{source} {}
  blob(blob&& other) noexcept { take(other); }
  blob& operator=(blob&& other) noexcept {
    if (this != &other) {
      free_storage();
      drop_descriptors();
      take(other);
    }
    return *this;
  }
  ~blob() {
    if (data_ != inline_) free_storage();
    if (descriptors_) delete descriptors_;
  }

  const std::byte* data() const noexcept { return data_; }
  std::byte* data() noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  bool empty() const noexcept { return size_ == 0; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  /// The bytes must not be this blob's own.
  void append(const void* bytes, std::size_t count) {
    if (count != 0) std::memcpy(extend(count), bytes, count);
  }

  /// Grows by `count` bytes that the caller fills in. One large step allocates exactly once.
  std::byte* extend(std::size_t count) {
    if (count > capacity_ - size_) [[unlikely]]
      grow(count);
    std::byte* end = data_ + size_;
    size_ += count;
    return end;
  }

  void assign(std::span<const std::byte> bytes) {
    clear();
    append(bytes.data(), bytes.size());
  }

  /// New bytes have no defined value.
  void resize_uninitialized(std::size_t size) {
    if (size > size_) extend(size - size_);
    size_ = size;
  }

  /// Makes room for `capacity` bytes in all, in one allocation.
  void reserve(std::size_t capacity) {
    if (capacity > capacity_) reallocate(capacity);
  }

  /// Keeps the storage for what comes next.
  void clear() noexcept {
    size_ = 0;
    if (descriptors_) [[unlikely]]
      drop_descriptors();
  }

  /// The descriptors that travel with the bytes.
  descriptor_list& descriptors() {
    if (!descriptors_) descriptors_ = new descriptor_list;
    return *descriptors_;
  }
  /// Null if none was ever asked for.
  const descriptor_list* find_descriptors() const noexcept { return descriptors_; }
  bool has_descriptors() const noexcept { return descriptors_ && !descriptors_->empty(); }
  std::size_t descriptor_count() const noexcept { return descriptors_ ? descriptors_->size() : 0; }
  void drop_descriptors() noexcept {
    delete descriptors_;
    descriptors_ = nullptr;
  }

  segment_source* source() const noexcept { return source_; }

  /// The segment that holds the bytes, or null.
  void* segment() const noexcept { return segment_; }

  /// Hands the segment to the caller, who releases it, and leaves the blob empty. Null when there
  /// is none; then nothing changes.
  void* detach_segment() noexcept;

  /// Becomes the owner of `block`, a segment of `source` whose first `size` bytes are filled.
  void adopt_segment(segment_source& source, segment_source::block block,
                     std::size_t size) noexcept;

 private:
  void grow(std::size_t count);
  void reallocate(std::size_t capacity);
  void free_storage() noexcept;
  void take(blob& other) noexcept;

  std::byte* data_ = inline_;
  std::size_t size_ = 0;
  std::size_t capacity_ = inline_capacity;
  segment_source* source_ = nullptr;
  void* segment_ = nullptr;
  descriptor_list* descriptors_ = nullptr;  // owned
  std::byte inline_[inline_capacity];
};

static_assert(sizeof(blob) <= 112);

}  // namespace carom::detail
