// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Everything but the headers that bring in CAF (actor.hpp).
#include <carom/async_result.hpp>
#include <carom/call.hpp>
#include <carom/errors.hpp>
#include <carom/exception.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/imap.hpp>
#include <carom/init.hpp>
#include <carom/log.hpp>
#include <carom/pool.hpp>
#include <carom/pool_info.hpp>
#include <carom/pool_options.hpp>
#include <carom/queue.hpp>
#include <carom/result.hpp>
#include <carom/stop_token.hpp>
#include <carom/task_options.hpp>
#include <carom/this_task.hpp>
#include <carom/this_worker.hpp>
