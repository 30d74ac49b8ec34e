#pragma once

/// Whether a sanitizer watches, which makes all ten times slower: long tests do a part of their work then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
