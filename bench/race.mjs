// One load, moved by every contender in turn, round after round.
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { availableBytes, proveCopies, settle, warm } from './disk.mjs'

/** Nobody likes a full disk. */
const SPARE_BYTES = 1e9

/**
 * Moves a load and returns what it took: `entries` of `{ contender, rounds }`, a round being the figures of one push; who was
 * `leftOut` and why; and by how much xferd's server grew. There are no entries if the load finds no space.
 *
 * A peer that is missing, fails or stores something else is left out.
 *
 * @throws if xferd does
 */
export async function race(load, { folder, rounds, tell }) {
  const leftOut = []
  const leaveOut = (what, reason) => {
    tell(`${load.title}: ${what} is left out, ${reason}`)
    leftOut.push({ what, reason })
  }
  const neededBytes = load.bytes + load.bytes / load.clients + SPARE_BYTES
  if (availableBytes(folder) < neededBytes) {
    leaveOut('all of it', `it needs ${(neededBytes / 1e9).toFixed(1)} GB free in ${folder}`)
    return { entries: [], leftOut }
  }
  tell(`${load.title}: writing what will be sent`)
  const source = join(folder, 'source')
  load.writeSource(source)
  const started = await start(load.contenders, folder, leaveOut)
  let entries = started
  for (let round = 1; round <= rounds; round++) {
    for (const entry of entries) {
      const { contender } = entry
      try {
        const figures = await turn(entry, source, load, round)
        entry.rounds.push(figures)
        tell(`${load.title}, round ${round} of ${rounds}: ${contender.name}, ${spoken(figures)}`)
      } catch (error) {
        if (contender.isSubject) throw error
        leaveOut(contender.name, error.message)
      }
    }
    entries = entries.filter((entry) => entry.rounds.length === round)
  }
  const growthBytes = entries.find(({ contender }) => contender.isSubject).session.growthBytes()
  for (const { session } of started) await session.stop()
  const roots = started.flatMap(({ root }) => [root, `${root}-kept`])
  for (const path of [source, ...roots]) rmSync(path, { recursive: true, force: true })
  return { entries, leftOut, growthBytes }
}

/** Gives each contender a folder of its own and starts its server. One that can't take part throws and is left out. */
async function start(contenders, folder, leaveOut) {
  const entries = []
  for (const contender of contenders) {
    const root = join(folder, `root-${entries.length}`)
    mkdirSync(root, { recursive: true })
    try {
      await contender.prepare(folder)
      entries.push({ contender, root, session: await contender.start(folder, root), rounds: [] })
    } catch (error) {
      if (contender.isSubject) throw error
      leaveOut(contender.name, error.message)
    }
  }
  return entries
}

async function turn({ contender, root, session }, source, { clients, keepsCopies }, round) {
  await settle()
  warm(source)
  try {
    const figures = await session.push(source, clients)
    if (!contender.removesCopies) await proveCopies(source, root, clients)
    return figures
  } finally {
    for (const name of readdirSync(root)) {
      if (keepsCopies) keep(join(root, name), `${root}-kept`, round)
      else rmSync(join(root, name), { recursive: true })
    }
  }
}

/**
 * Moves copies out of the way. ext4 steps over every inode that was deleted in the last half minute (`recently_deleted` in
 * fs/ext4/ialloc.c) whenever it makes a file, which after 10,000 deletions takes five times as long as making it.
 */
function keep(path, kept, round) {
  mkdirSync(kept, { recursive: true })
  renameSync(path, join(kept, `${round}`))
}

function spoken({ process_s, mb_per_s }) {
  const parts = [process_s && `${process_s.toFixed(3)} s`, mb_per_s && `${mb_per_s.toFixed(0)} MB/s`]
  return parts.filter(Boolean).join(', ')
}
