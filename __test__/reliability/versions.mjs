// What the clients of the kill loop push: version after version, in turn under few names, so that names are replaced, and of few
// sources, so that no two versions in a row under one name are the same.
const TARGETS = 3

export function targetOf(version) {
  return `file-${version % TARGETS}`
}

/** There are as many sources that version and version + TARGETS have different ones. */
export function sourceOf(sources, version) {
  return sources[version % sources.length]
}

/** The versions from `first` to `last` that are pushed to where `version` is. */
export function versionsLike(version, first, last) {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index).filter(
    (it) => it % TARGETS === version % TARGETS,
  )
}

/** One version for each name. */
export const ONE_OF_EACH = Array.from({ length: TARGETS }, (_, version) => version)
