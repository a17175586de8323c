// SPDX-License-Identifier: BSL-1.0
#include "runtime/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <mutex>

namespace carom {
namespace {

std::shared_ptr<spdlog::logger> make_default(const std::string& name) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(name, std::move(sink));
  logger->set_level(spdlog::level::warn);
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e [%n] [%l] %v");
  return logger;
}

struct log_state {
  std::mutex mutex;
  std::string name = "carom";
  spdlog::level::level_enum level = spdlog::level::warn;
  std::shared_ptr<spdlog::logger> logger;
};

/// Replaced, never locked, in a fork: another thread of the parent may have held the lock.
log_state*& state() {
  static auto* one = new log_state;
  return one;
}

}  // namespace

std::shared_ptr<spdlog::logger> log() {
  auto& s = *state();
  std::lock_guard lock(s.mutex);
  if (!s.logger) {
    s.logger = make_default(s.name);
    s.logger->set_level(s.level);
  }
  return s.logger;
}

void set_log(std::shared_ptr<spdlog::logger> logger) {
  auto& s = *state();
  std::lock_guard lock(s.mutex);
  s.logger = std::move(logger);
}

namespace runtime {

void restart_log(const std::string& name, int level) {
  auto* fresh = new log_state;
  // Made when it is needed: most workers have nothing to say.
  fresh->name = name;
  fresh->level = static_cast<spdlog::level::level_enum>(level);
  state() = fresh;
}

int log_level() { return static_cast<int>(log()->level()); }

}  // namespace runtime
}  // namespace carom
