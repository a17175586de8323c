// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <system_error>

namespace carom::serialization {

/// An error code of a category that only the sender has.
struct remote_code {
  std::string category;
  int value = 0;
  std::string message;
  std::optional<int> condition;  ///< the std::errc that it stands for, if there is one

  static remote_code of(const std::error_code& code);

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& category& value& message& condition;
  }
};

/// The same value in a category of the same name, which gives that message: one for each name, kept
/// for ever, as codes may be. Beyond a number of names or values that no program has, the message
/// is lost. Thread-safe; a fork never inherits a held lock.
std::error_code make_code(const remote_code& code);

}  // namespace carom::serialization
