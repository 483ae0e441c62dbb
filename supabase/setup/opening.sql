-- Glimpse3D {version}: tables, functions, rights and buckets of a Supabase project, in one piece.
-- Paste it into the SQL editor and run it; or `psql -f` it. It may run any number of times, and
-- brings a project of an older release up to date. Then: glimpse3d doctor
begin;
set local client_min_messages = warning;
-- Rather stop than keep others waiting behind what waits here.
set local lock_timeout = '10s';

-- Names in `public` that another program has would be taken over.
do $$
declare
    v_name text;
begin
    if to_regproc('public.schema_version_v1') is not null then
        return;
    end if;
    foreach v_name in array array[{tables}] loop
        if to_regclass('public.' || v_name) is not null then
            raise exception 'There is a table % of another program in this project: use a project '
                'of its own for Glimpse3D.', v_name;
        end if;
    end loop;
    if to_regproc('public.touch_updated_at') is not null then
        raise exception 'There is a function touch_updated_at() of another program in this '
            'project: use a project of its own for Glimpse3D.';
    end if;
end
$$;
