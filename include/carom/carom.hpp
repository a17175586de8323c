// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Everything but the headers that bring in CAF (actor.hpp).
#include <carom/async_result.hpp>
#include <carom/authkey.hpp>
#include <carom/call.hpp>
#include <carom/connection.hpp>
#include <carom/context.hpp>
#include <carom/cpu_count.hpp>
#include <carom/errors.hpp>
#include <carom/exception.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/imap.hpp>
#include <carom/init.hpp>
#include <carom/listener.hpp>
#include <carom/log.hpp>
#include <carom/object_lock.hpp>
#include <carom/pipe.hpp>
#include <carom/pool.hpp>
#include <carom/pool_info.hpp>
#include <carom/pool_options.hpp>
#include <carom/process.hpp>
#include <carom/queue.hpp>
#include <carom/result.hpp>
#include <carom/shared.hpp>
#include <carom/shared_array.hpp>
#include <carom/shared_buffer.hpp>
#include <carom/shared_heap.hpp>
#include <carom/simple_queue.hpp>
#include <carom/start_method.hpp>
#include <carom/stop_token.hpp>
#include <carom/sync.hpp>
#include <carom/task_options.hpp>
#include <carom/this_task.hpp>
#include <carom/this_worker.hpp>
#include <carom/wait.hpp>
