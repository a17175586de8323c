// SPDX-License-Identifier: BSL-1.0
#include "tests/support/helper_program.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"

namespace carom::test {
namespace {

constexpr char flag[] = "--helper-program";
constexpr int fixed_arguments = 4;  // binary, flag, name, board

std::vector<const helper_program*>& programs() {
  static std::vector<const helper_program*> all;
  return all;
}

}  // namespace

helper_program::helper_program(std::string name, int (*run)(const arguments&), init wanted)
    : name_(std::move(name)), run_(run), init_(wanted) {
  programs().push_back(this);
}

const helper_program* asked_for(int argc, char** argv) {
  if (argc < fixed_arguments || std::strcmp(argv[1], flag) != 0) return nullptr;
  for (const helper_program* program : programs())
    if (program->name_ == argv[2]) return program;
  return nullptr;
}

int run_helper(const helper_program& program, int argc, char** argv) {
  return program.run_({argv + fixed_arguments, argv + argc});
}

int board_of(int argc, char** argv) { return asked_for(argc, argv) ? std::stoi(argv[3]) : -1; }

running_helper::running_helper(const helper_program& program,
                               const helper_program::arguments& arguments) {
  const std::string board_number = std::to_string(board::fd());
  std::vector<const char*> argv{"/proc/self/exe", flag, program.name().c_str(),
                                board_number.c_str()};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::fcntl(board::fd(), F_SETFD, 0);
    ::execv(argv[0], const_cast<char**>(argv.data()));
    ::_exit(127);
  }
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
}

running_helper::~running_helper() {
  if (!status_) {
    ::kill(pid_, SIGKILL);
    wait();
  }
  ::close(pidfd_);
}

void running_helper::signal(int number) const {
  if (!status_) ::kill(pid_, number);
}

std::optional<int> running_helper::wait(std::chrono::milliseconds deadline) {
  int status = 0;
  if (!status_ && wait_for_end(pidfd_, deadline) && ::waitpid(pid_, &status, 0) == pid_)
    status_ = status;
  return status_;
}

}  // namespace carom::test
