// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace carom::runtime {

/// Decides how many items of a chunk run before the clock is read again, so that finished items
/// are published within about a millisecond and reading the clock costs nothing.
class chunk_pace {
 public:
  struct step {
    bool publish;
    std::uint64_t items;
  };

  explicit chunk_pace(std::int64_t now_ns) : published_ns_(now_ns), looked_ns_(now_ns) {}

  /// `unpublished` items with `bytes` of values are waiting.
  step next(std::uint64_t unpublished, std::uint64_t bytes, std::int64_t now_ns) {
    const std::int64_t since_look = now_ns - looked_ns_;
    looked_ns_ = now_ns;
    if (since_look < look_ns / 2)
      batch_ = std::min<std::uint64_t>(batch_ * 2, most_items);
    else if (since_look > look_ns)
      batch_ = std::max<std::uint64_t>(batch_ / 2, 1);
    const bool publish =
        unpublished != 0 && (bytes >= publish_bytes || now_ns - published_ns_ >= publish_ns);
    if (publish) published_ns_ = now_ns;
    // Values grow unseen between two looks: keep what one batch makes near one frame.
    const std::uint64_t each = unpublished ? std::max<std::uint64_t>(bytes / unpublished, 1) : 1;
    const std::uint64_t fit = std::max<std::uint64_t>(publish_bytes / each, 1);
    return {publish, std::min(batch_, fit)};
  }

 private:
  static constexpr std::int64_t publish_ns = 500'000;
  static constexpr std::int64_t look_ns = 200'000;
  static constexpr std::uint64_t publish_bytes = 16 * 1024;
  /// Items may become slow at any time; reading the clock costs as much as one of the shortest.
  static constexpr std::uint64_t most_items = 64;

  std::int64_t published_ns_;
  std::int64_t looked_ns_;
  std::uint64_t batch_ = 1;
};

}  // namespace carom::runtime
