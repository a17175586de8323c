// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

#include "runtime/worker_page.hpp"

namespace carom::runtime {

/// From now on a crash of this process or of one forked from it (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
/// SIGABRT) leaves its stack where `report_crashes_to` says, before it ends the process as it would
/// have. A handler that a task installs goes first; it runs on a stack of its own, so that a stack
/// overflow is told too.
void install_crash_report();
void report_crashes_to(crash_report& report);
/// For a process that does not have the report's memory: a crash ends it, and leaves nothing.
void report_crashes_nowhere() noexcept;
/// For a process that a task has forked, which does not have its worker's page: it comes there when
/// it returns from the task. It says so on stderr, instead of crashing, and ends with status 1.
void expect_no_return_to(const worker_page& page) noexcept;
/// For where such a process comes without touching the page: what it says and does. Nothing in any
/// other.
void end_if_returned_copy() noexcept;
/// Undoes `install_crash_report` in a process forked from the one that called it.
void remove_crash_report() noexcept;

/// Loads what the handler needs, once, before processes are forked: a handler may not.
void prepare_crash_reports();

/// A dead worker's report as text, a line for each frame, innermost first; empty if there is none.
/// Functions are named as far as the module's symbol table names them. The report is not trusted.
std::string describe_crash(const crash_report& report);

}  // namespace carom::runtime
