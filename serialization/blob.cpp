// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/blob.hpp>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <utility>

namespace carom::detail {

void blob::grow(std::size_t count) {
  if (count > std::numeric_limits<std::size_t>::max() - size_) throw std::bad_alloc{};
  const std::size_t needed = size_ + count;
  // Doubling keeps many small steps linear; a step beyond that is taken exactly.
  reallocate(std::max(needed, capacity_ > needed / 2 ? 2 * capacity_ : needed));
}

void blob::reallocate(std::size_t capacity) {
  if (source_ != nullptr && capacity > segment_threshold) {
    const segment_source::block block = source_->acquire(capacity);
    std::memcpy(block.data, data_, size_);
    free_storage();
    data_ = block.data;
    capacity_ = block.capacity;
    segment_ = block.handle;
    return;
  }
  const bool on_heap = data_ != inline_;
  auto* bytes = static_cast<std::byte*>(std::realloc(on_heap ? data_ : nullptr, capacity));
  if (bytes == nullptr) throw std::bad_alloc{};
  if (!on_heap) std::memcpy(bytes, inline_, size_);
  data_ = bytes;
  capacity_ = capacity;
}

void* blob::detach_segment() noexcept {
  void* segment = segment_;
  if (segment != nullptr) {
    segment_ = nullptr;
    data_ = inline_;
    size_ = 0;
    capacity_ = inline_capacity;
  }
  return segment;
}

void blob::adopt_segment(segment_source& source, segment_source::block block,
                         std::size_t size) noexcept {
  free_storage();
  data_ = block.data;
  size_ = size;
  capacity_ = block.capacity;
  source_ = &source;
  segment_ = block.handle;
}

void blob::free_storage() noexcept {
  if (segment_ != nullptr)
    source_->release(segment_);
  else if (data_ != inline_)
    std::free(data_);
  segment_ = nullptr;
  data_ = inline_;
  capacity_ = inline_capacity;
}

void blob::take(blob& other) noexcept {
  size_ = other.size_;
  capacity_ = other.capacity_;
  source_ = other.source_;
  segment_ = other.segment_;
  descriptors_ = std::exchange(other.descriptors_, nullptr);
  if (other.data_ == other.inline_) {
    data_ = inline_;
    std::memcpy(inline_, other.inline_, inline_capacity);
  } else {
    data_ = other.data_;
  }
  other.data_ = other.inline_;
  other.size_ = 0;
  other.capacity_ = inline_capacity;
  other.segment_ = nullptr;
}

}  // namespace carom::detail
