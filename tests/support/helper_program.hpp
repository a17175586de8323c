// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace carom::test {

/// A program of its own inside the test binary, for what a test cannot do to itself: to be killed,
/// or to forget `carom::init`. Shares the board with the test that started it.
///
///     const helper_program busy_host("busy_host", [](const auto& arguments) { …; return 0; });
class helper_program {
 public:
  using arguments = std::vector<std::string>;
  enum class init { done, missing };

  helper_program(std::string name, int (*run)(const arguments&), init wanted = init::done);

  const std::string& name() const { return name_; }

 private:
  friend const helper_program* asked_for(int argc, char** argv);
  friend int run_helper(const helper_program& program, int argc, char** argv);
  friend bool wants_init(const helper_program& program) { return program.init_ == init::done; }

  std::string name_;
  int (*run_)(const arguments&);
  init init_;
};

/// For main: the program that the command line names, or null.
const helper_program* asked_for(int argc, char** argv);
int run_helper(const helper_program& program, int argc, char** argv);
/// The board that the command line hands over, or -1.
int board_of(int argc, char** argv);

/// A helper program that runs, killed at the latest by the destructor.
class running_helper {
 public:
  explicit running_helper(const helper_program& program,
                          const helper_program::arguments& arguments = {});
  running_helper(const running_helper&) = delete;
  running_helper& operator=(const running_helper&) = delete;
  ~running_helper();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Its wait status once it has ended; nothing if that takes too long.
  std::optional<int> wait(std::chrono::milliseconds deadline = std::chrono::seconds(60));

 private:
  pid_t pid_ = 0;
  int pidfd_ = -1;
  std::optional<int> status_;
};

}  // namespace carom::test
