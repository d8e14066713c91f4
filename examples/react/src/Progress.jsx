/** How far a job is, as the server told it last; without a word from there yet, that it runs. */
export default function Progress({ done = 0, total = null, text = "", queue = null }) {
  const known = total > 0;
  return (
    <div className="progress">
      <progress aria-label="Progress" max={known ? total : undefined} value={known ? done : undefined} />
      <span>{queue === null ? text : `in line, ${queue} before this one`}</span>
      {known && (
        <span className="count">
          {done} of {total}
        </span>
      )}
    </div>
  );
}
