// SPDX-License-Identifier: BSL-1.0
#include "runtime/log.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <carom/detail/start_path.hpp>
#include <memory>
#include <mutex>
#include <utility>

namespace carom {
namespace {

/// Records go where the process got its logger from, and to stderr where that takes nothing.
class forwarding_sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit forwarding_sink(runtime::log_forward to) : to_(std::move(to)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& record) override {
    const std::string_view text(record.payload.data(), record.payload.size());
    if (!to_(static_cast<int>(record.level), text)) stderr_.log(record);
  }
  void flush_() override { stderr_.flush(); }
  void set_pattern_(const std::string& pattern) override { stderr_.set_pattern(pattern); }
  void set_formatter_(std::unique_ptr<spdlog::formatter> formatter) override {
    stderr_.set_formatter(std::move(formatter));
  }

  runtime::log_forward to_;
  spdlog::sinks::stderr_sink_mt stderr_;
};

std::shared_ptr<spdlog::logger> make_default(const std::string& name,
                                             const runtime::log_forward& forward) {
  spdlog::sink_ptr sink;
  if (forward)
    sink = std::make_shared<forwarding_sink>(forward);
  else
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(name, std::move(sink));
  logger->set_level(spdlog::level::warn);
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e [%n] [%l] %v");
  return logger;
}

struct log_state {
  std::mutex mutex;
  std::string name = "carom";
  spdlog::level::level_enum level = spdlog::level::warn;
  runtime::log_forward forward;
  std::shared_ptr<spdlog::logger> logger;
};

/// Replaced, never locked, in a fork: another thread of the parent may have held the lock.
CAROM_START_DATA constinit std::atomic<log_state*> replaced{nullptr};

log_state& state() {
  if (log_state* const other = replaced.load(std::memory_order_acquire)) return *other;
  static auto* const first = new log_state;
  return *first;
}

}  // namespace

std::shared_ptr<spdlog::logger> log() {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  if (!s.logger) {
    s.logger = make_default(s.name, s.forward);
    s.logger->set_level(s.level);
  }
  return s.logger;
}

void set_log(std::shared_ptr<spdlog::logger> logger) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  s.logger = std::move(logger);
}

namespace runtime {

CAROM_START_PATH void restart_log(const std::string& name, int level, log_forward forward) {
  auto* fresh = new log_state;
  // Made when it is needed: most workers have nothing to say.
  fresh->name = name;
  fresh->level = static_cast<spdlog::level::level_enum>(level);
  fresh->forward = std::move(forward);
  replaced.store(fresh, std::memory_order_release);
}

int log_level() { return static_cast<int>(log()->level()); }

}  // namespace runtime
}  // namespace carom
