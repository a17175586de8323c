// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::runtime {

/// A queue's host where it is in this process; on the loop.
class queue_host {
 public:
  virtual ~queue_host() = default;

  /// Does all there is to do for all clients, here and now.
  virtual void turn() = 0;
  /// A handle is gone: ends the queue if it was the last and no client is there.
  virtual void look_for_end() = 0;
};

}  // namespace carom::runtime
