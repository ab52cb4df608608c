"""The chart of the memory: an SVG that any browser shows, in its reader's colours."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 260, 60, 20, 40


def memory_chart(points: list[tuple[int, float]]) -> str:
    """MiB over payments, from nothing on both axes."""
    most, highest = points[-1][0], max(mib for _, mib in points) * 1.2
    across = (WIDTH - LEFT - 20) / most
    down = (HEIGHT - TOP - BOTTOM) / highest
    floor = HEIGHT - BOTTOM
    line = " ".join(f"{LEFT + taken * across:.1f},{floor - mib * down:.1f}" for taken, mib in points)
    ticks = [highest * part / 4 for part in range(5)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            ' aria-label="Resident memory in MiB over the payments taken">',
            "<style>text{font:12px sans-serif;fill:#555}path,polyline{fill:none}"
            "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>",
            *(
                f'<path d="M{LEFT} {floor - tick * down:.1f}H{WIDTH - 20}" stroke="#8884"/>'
                f'<text x="{LEFT - 8}" y="{floor - tick * down + 4:.1f}" text-anchor="end">{tick:.0f}</text>'
                for tick in ticks
            ),
            f'<polyline points="{line}" stroke="#2a7de1" stroke-width="2"/>',
            f'<text x="{LEFT}" y="{HEIGHT - 16}">0</text>',
            f'<text x="{WIDTH - 20}" y="{HEIGHT - 16}" text-anchor="end">{most:,} payments</text>',
            f'<text x="8" y="{TOP - 6}">MiB</text>',
            "</svg>",
            "",
        ]
    )
