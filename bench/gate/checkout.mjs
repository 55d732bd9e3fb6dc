// Checkouts to measure: this one, and others in git worktrees of their own below target/.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BASELINE } from './baseline.mjs'

export const ROOT = join(import.meta.dirname, '../..')
const SCENARIOS = 'bench/scenarios'
export const BENCH = join(ROOT, 'target/bench')
/** Other checkouts are built in one folder, so that what they have in common is built once. */
export const BUILD_FOLDER = join(BENCH, 'build')
const BUILD_ENV = { ...process.env, CARGO_TARGET_DIR: BUILD_FOLDER }
/** Written once a checkout is built. */
const BUILT = 'target/built'
const TOLD = ['ignore', process.stderr, process.stderr]

/** Builds all that is measured and says where it is. Quick if it is built. */
export function build(checkout, targetFolder = join(checkout, 'target')) {
  const env = { ...process.env, CARGO_TARGET_DIR: targetFolder }
  sh(checkout, ['npm', 'run', '--silent', 'build'], { env, stdio: TOLD })
  return { checkout, program: buildScenarios(checkout, targetFolder) }
}

/** Builds the scenarios alone and returns where their executable is. */
export function buildScenarios(checkout, targetFolder = join(checkout, 'target')) {
  const env = { ...process.env, CARGO_TARGET_DIR: targetFolder }
  sh(checkout, ['cargo', 'build', '--quiet', '--release', '-p', 'xferd-scenarios'], { env, stdio: TOLD })
  // A copy, because the next checkout that is built in the same folder would put its own in its place.
  const program = join(checkout, 'target/xferd-scenarios')
  cpSync(join(targetFolder, 'release/xferd-scenarios'), program)
  return program
}

/**
 * The commit to compare with: where this branch left origin/main, unless figures have been accepted since, or there is no
 * such branch; then the commit that accepted them. `undefined` if that is what is checked out, and nothing has changed.
 */
export function baseCommit() {
  const accepted = git('log', '-1', '--format=%H', '--', BASELINE)
  const parting = tryGit('merge-base', 'origin/main', 'HEAD')
  const acceptedSince =
    parting !== undefined && git('log', '--format=%H', `${parting}..HEAD`, '--', BASELINE) !== ''
  const base = parting !== undefined && !acceptedSince ? parting : accepted
  if (base === '') throw new Error(`${BASELINE} is not committed, so there is nothing to compare with`)
  const unchanged = base === git('rev-parse', 'HEAD') && git('status', '--porcelain') === ''
  return unchanged ? undefined : base
}

/** A checkout of `commit`, kept and built once. `program` is this checkout's scenarios, run on that commit's code. */
export function builtCheckoutOf(commit) {
  const checkout = join(BENCH, commit)
  if (!existsSync(join(checkout, BUILT))) {
    addCheckout(checkout, commit)
    sh(checkout, ['npm', 'run', '--silent', 'build'], { env: BUILD_ENV, stdio: TOLD })
    writeFileSync(join(checkout, BUILT), '')
  }
  return { checkout, program: lentScenarios(checkout) }
}

/** Both sides have to do the same to be compared, so the scenarios are lent; not to a commit that they don't fit. */
function lentScenarios(checkout) {
  const theirs = join(checkout, SCENARIOS)
  if (!existsSync(theirs)) return undefined
  rmSync(theirs, { recursive: true })
  cpSync(join(ROOT, SCENARIOS), theirs, { recursive: true })
  try {
    return buildScenarios(checkout, BUILD_FOLDER)
  } catch {
    return undefined
  }
}

/** A fresh checkout of `commit`, with this one's packages and not built yet. */
export function addCheckout(checkout, commit) {
  removeCheckout(checkout)
  mkdirSync(BENCH, { recursive: true })
  git('worktree', 'add', '--force', '--detach', checkout, commit)
  symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'))
  mkdirSync(join(checkout, 'target'))
}

export function removeCheckout(checkout) {
  rmSync(checkout, { recursive: true, force: true })
  git('worktree', 'prune')
}

export function git(...args) {
  return gitIn(ROOT, ...args)
}

export function gitIn(checkout, ...args) {
  return sh(checkout, ['git', ...args], { stdio: ['ignore', 'pipe', 'pipe'] }).trim()
}

function tryGit(...args) {
  try {
    return git(...args)
  } catch {
    return undefined
  }
}

function sh(cwd, [command, ...args], options) {
  return execFileSync(command, args, { cwd, encoding: 'utf8', ...options }) ?? ''
}
