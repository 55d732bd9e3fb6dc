/** One load, moved by every contender in turn, round after round. */
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Contender, Figures, Load, Session } from './contender.js'
import { proveCopies, settle, warm } from './disk.mjs'
import { DISCARD } from './kernel.js'

/** What a load may have for all of the kernel's ways to take part in every round: with more, rounds take minutes. */
const EVERY_WAY_BYTES_MAX = 5e9
/** How many of them go on after the first round otherwise: the best, and the next in case it only seemed so. */
const CEILINGS_KEPT = 2

/** What one contender took. */
export interface Entry {
  contender: Contender
  version?: string | undefined
  rounds: Figures[]
}

/** What did not take part, and why. */
export interface LeftOut {
  what: string
  reason: string
}

interface Running extends Entry {
  session: Session
  copies: string
}

/**
 * Moves a load, `rounds` times by each contender. One that is missing, fails or stores something else is left out.
 *
 * @throws if xferd does
 */
export async function race(
  load: Load,
  contenders: Contender[],
  {
    source,
    folder,
    rounds,
    tell,
  }: { source: string; folder: string; rounds: number; tell: (line: string) => void },
): Promise<{ entries: Entry[]; leftOut: LeftOut[] }> {
  const leftOut: LeftOut[] = []
  const leaveOut = (contender: Contender, error: unknown): void => {
    if (contender.kind === 'xferd') throw error
    const { message: reason } = error as Error
    tell(`${load.title}: ${contender.name} is left out: ${reason}`)
    leftOut.push({ what: `${load.title}: ${contender.name}`, reason })
  }

  const all: Running[] = []
  for (const [number, contender] of contenders.entries()) {
    const scratch = join(folder, `contender-${number}`)
    const copies = join(scratch, 'copies')
    mkdirSync(copies, { recursive: true })
    const root = load.direction === 'push' ? copies : join(source, '..')
    try {
      const session = await contender.start({ load, source, root, copies, scratch })
      all.push({ contender, version: session.version, session, copies, rounds: [] })
    } catch (error) {
      leaveOut(contender, error)
    }
  }

  let racing = all
  for (let round = 1; round <= rounds; round++) {
    // Whose turn follows whose decides whether it finds memory that was used a moment ago, which is several times as fast
    // to get on some virtual machines. So every second round goes backwards.
    for (const running of round % 2 === 1 ? racing : racing.toReversed()) {
      const { contender } = running
      try {
        const figures = await turn(running, source, load, round)
        running.rounds.push(figures)
        const rate = (load.sourceBytes * load.clients) / 1e6 / figures.seconds
        tell(
          `${load.title}, round ${round} of ${rounds}: ${contender.name}, ${figures.seconds.toFixed(3)} s, ${rate.toFixed(0)} MB/s`,
        )
      } catch (error) {
        leaveOut(contender, error)
      }
    }
    racing = racing.filter(({ rounds }) => rounds.length === round)
    if (round === 1) racing = withoutSlowWays(racing, load)
  }
  for (const { session } of all) await session.stop()
  if (!load.isTree) rmSync(folder, { recursive: true })
  // One that failed later has no place beside those that moved everything.
  const failed = new Set(leftOut.map(({ what }) => what))
  const entries = all.filter(({ contender }) => !failed.has(`${load.title}: ${contender.name}`))
  return { entries, leftOut }
}

/** The network alone is known well enough after one round, and for a large load so are the kernel's slower ways. */
function withoutSlowWays(racing: Running[], { sourceBytes, clients }: Load): Running[] {
  const kept = sourceBytes * clients <= EVERY_WAY_BYTES_MAX ? Number.POSITIVE_INFINITY : CEILINGS_KEPT
  const ways = racing.filter(({ contender }) => contender.kind === 'ceiling')
  const seconds = ({ rounds }: Running): number => rounds[0]?.seconds ?? Number.POSITIVE_INFINITY
  const slow = new Set(ways.toSorted((one, other) => seconds(one) - seconds(other)).slice(kept))
  return racing.filter((running) => !slow.has(running) && running.contender.name !== DISCARD)
}

async function turn(
  { contender, session, copies }: Running,
  source: string,
  { clients, isTree }: Load,
  round: number,
): Promise<Figures> {
  await settle()
  await warm(source)
  try {
    const figures = await session.move()
    if (contender.keepsCopies) await proveCopies(source, copies, clients, round === 1)
    return figures
  } finally {
    for (const name of readdirSync(copies)) {
      if (isTree) keep(join(copies, name), join(copies, '../kept'), round)
      else rmSync(join(copies, name), { recursive: true })
    }
  }
}

/**
 * Moves copies out of the way. ext4 steps over every inode that was deleted in the last half minute (`recently_deleted` in
 * fs/ext4/ialloc.c) whenever it makes a file, which after 10,000 deletions takes five times as long as making it. So trees
 * stay until all loads are over.
 */
function keep(path: string, kept: string, round: number): void {
  mkdirSync(kept, { recursive: true })
  renameSync(path, join(kept, `${round}`))
}
