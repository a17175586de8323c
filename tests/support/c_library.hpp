// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <filesystem>
#include <string>

namespace carom::test {

/// A shared library of C code that is compiled now and opened when wanted; closed and removed by
/// the destructor.
class c_library {
 public:
  explicit c_library(const std::string& source);
  c_library(const c_library&) = delete;
  c_library& operator=(const c_library&) = delete;
  ~c_library();

  void open();
  void close();
  /// What is named so in the open library.
  void* symbol(const char* name) const;
  const std::string& path() const { return path_; }

 private:
  std::filesystem::path folder_;
  std::string path_;
  void* handle_ = nullptr;
};

}  // namespace carom::test
