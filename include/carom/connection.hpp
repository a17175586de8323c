// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Everything about connections: `connection` and `pipe`, `listener` and `client`, `wait`.
#include <carom/authkey.hpp>
#include <carom/listener.hpp>
#include <carom/pipe.hpp>
#include <carom/wait.hpp>
