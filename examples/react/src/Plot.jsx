/** The points and, once there is a result, the lines to their centres. */
export default function Plot({ width, height, points, result }) {
  const sizes = result?.centres.map(
    (_, cluster) => result.members.filter((member) => member === cluster).length,
  );
  return (
    <figure>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={title(points, sizes)}>
        {result?.centres.map(([x, y], cluster) => (
          <path key={cluster} className={`link cluster-${cluster}`} d={links(x, y, points, result, cluster)} />
        ))}
        {points.map(([x, y], number) => (
          <circle key={number} className={`point ${colour(result, number)}`} cx={x} cy={y} r="0.9" />
        ))}
        {result?.centres.map(([x, y], cluster) => (
          <circle key={cluster} className={`centre cluster-${cluster}`} cx={x} cy={y} r="2.2" />
        ))}
      </svg>
      {sizes && (
        <figcaption>
          <h2>Points in each cluster</h2>
          <ol>
            {sizes.map((size, cluster) => (
              <li key={cluster} className={`cluster-${cluster}`}>
                {size}
              </li>
            ))}
          </ol>
        </figcaption>
      )}
    </figure>
  );
}

function links(x, y, points, { members }, cluster) {
  return points
    .filter((_, number) => members[number] === cluster)
    .map((point) => `M${x} ${y}L${point[0]} ${point[1]}`)
    .join("");
}

function colour(result, number) {
  return result ? `cluster-${result.members[number]}` : "";
}

function title(points, sizes) {
  return sizes ? `${points.length} points in ${sizes.length} clusters` : `${points.length} points`;
}
